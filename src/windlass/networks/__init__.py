"""Container networks: drivers, address management, published ports."""
