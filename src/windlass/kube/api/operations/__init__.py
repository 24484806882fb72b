"""What can be done with objects, whoever asks: through HTTP, from a controller in this process, from admission.

    create ─┐           ┌ default ─ admission: mutate ─ prepare ─ validate ─ admission: validate ─ commit
    update ─┼─ one way ─┤
    patch  ─┘           └ a commit that lost a race begins again with the newer object
    delete ─── grace period, finalizers, propagation
    find, select, page ── bytes of the store, untouched

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""
