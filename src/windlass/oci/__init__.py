"""Documents and names of the Open Container Initiative: references, digests, platforms, manifests, configurations."""
