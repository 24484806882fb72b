"""Built-in kinds that are served in several versions: how an object of one becomes one of another."""
