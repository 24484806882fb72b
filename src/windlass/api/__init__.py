"""Published protocols, one package each."""
