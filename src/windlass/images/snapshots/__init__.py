"""Snapshots: layers unpacked once, and the writable roots of containers over them; one file a storage driver."""
