"""Kinds of networks, one file each."""
