"""The operations of the Docker Engine API as methods, one file for each tag: they find things, the rooms do the work.

Each class is a part of `Engine`. Arguments are parsed query values and JSON documents, results JSON documents in the
shape of API 1.51, failures `windlass.errors` with dockerd's words (`windlass.api.docker.backend` is the contract).
"""
