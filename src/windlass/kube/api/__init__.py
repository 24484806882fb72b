"""The Kubernetes API server: from a request to the store and back."""
