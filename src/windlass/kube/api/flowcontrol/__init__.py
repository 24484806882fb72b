"""Priority and fairness: which request runs now, which waits, which is sent away."""
