"""Measure Windlass beside its peers, in one run, on one tmpfs: `python -m bench --help`."""
