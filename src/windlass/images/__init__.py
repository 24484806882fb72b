"""Content store, layers and snapshots, archives, registry client."""
