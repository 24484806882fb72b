"""Controllers: each watches some kinds and makes the world agree with what they say.

    queue    keys to work on: each by one worker at a time, none lost, duplicates collapsed, failures with back-off
    runner   what all controllers share
    namespaces, garbage_collector, service_accounts, role_aggregation, …   one file each

Level-triggered: `reconcile` gets a key alone, looks at the cache, and does what is missing.
"""
