"""Admission: after who asks is known and before anything is stored, plugins change a request or refuse it.

    attributes  the request as plugins see it
    chain       which plugins look at what, in which order
    plugins/    the built-in ones, one file each

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""
