"""Admission webhooks: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from windlass.kube.admission.webhooks.dispatch import MutatingAdmissionWebhook, ValidatingAdmissionWebhook

__all__ = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"]
