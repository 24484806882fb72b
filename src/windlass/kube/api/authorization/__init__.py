"""Who may do what: each authorizer is one file; `chain` asks them in the configured order."""
