"""What Linux offers, typed and thin. Functions raise `OSError` that names the path or object."""
