"""Tables: how `kubectl get` shows each kind, computed by the server.

    table     objects → Table, PartialObjectMetadata
    cells     what printers share: ages, lists, counts
    core, apps, batch, …   one file for each API group: columns and cells

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""
