"""HTTP for objects: read a request's options and body, call an operation, encode the outcome.

call      one request, taken apart
bodies    bytes of any media type → objects
encoding  objects (or stored bytes) → the form that was negotiated
single    get, create, update, patch, delete of one object
lists     list and deletecollection
watches   watch
"""
