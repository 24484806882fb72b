"""Field management: who owns which field of an object, and server-side apply.

    fieldset   sets of fields, in the form in which objects keep them (FieldsV1)
    typed      an object with its schema: the fields it has, what differs, merging, taking out
    managers   metadata.managedFields after an ordinary write
    apply      server-side apply: merge, conflicts, what is no longer applied

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""
