"""OpenAPI documents of what is served: `kubectl explain`, validation and typed clients read them.

    /openapi/v3                        an index with hashes
    /openapi/v3/apis/apps/v1?hash=…    one document for each group and version
    /openapi/v2                        all in one, the older form

    definitions   the schemas of kinds, built-in and custom, with what they refer to
    paths         the operations of resources
    gnostic       v2 as protobuf
    documents     both put together, kept until the registry changes

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from windlass.kube.openapi.documents import Documents

__all__ = ["Documents"]
