"""Admission policies in CEL: ValidatingAdmissionPolicy and MutatingAdmissionPolicy.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ and
.../mutating-admission-policy/
"""

from windlass.kube.admission.policies.mutating import MutatingAdmissionPolicy
from windlass.kube.admission.policies.validating import ValidatingAdmissionPolicy

__all__ = ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"]
