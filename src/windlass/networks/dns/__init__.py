"""The name server of networks that somebody created: it knows their containers, and asks others for the rest."""
