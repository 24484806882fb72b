"""Fuzzers for long runs; `python -m tests.fuzz.archives --help`. Short runs of the same kind are in the unit tests."""
