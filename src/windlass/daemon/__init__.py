"""The engine daemon: settings, assembly, signals."""
