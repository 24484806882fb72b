"""Who asks: each way to prove it is one file; `union` tries them in order and remembers tokens for a moment."""
