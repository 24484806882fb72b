"""Bootstrap tokens: the secrets that they are in the API, and `windlass token`.

secret    a token as a Secret of kube-system, to and fro
command   create, list, delete, generate
"""
