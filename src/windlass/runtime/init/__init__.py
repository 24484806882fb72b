"""Carrying out a plan: what runs in the forked child between clone3(2) and execve(2)."""
