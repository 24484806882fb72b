"""Kubernetes: the API server, its controllers, and what they stand on."""
