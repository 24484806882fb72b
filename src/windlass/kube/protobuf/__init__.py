"""Protobuf, as typed Go clients send objects by default.

    "k8s\\0" + runtime.Unknown {typeMeta {apiVersion, kind}, raw: the message of that kind}

    table    which field of which message has which number (fields.txt, distilled from the published definitions)
    wire     the encoding itself: varints, lengths
    codec    messages ⇄ JSON objects

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from windlass.kube.protobuf.codec import decode, encode, encode_event

__all__ = ["decode", "encode", "encode_event"]
