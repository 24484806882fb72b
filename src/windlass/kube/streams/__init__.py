"""What clients, API server and kubelets say to each other about running pods, beside plain HTTP.

options          what is asked for: of a log, of a command's streams (pure)
commands         a command's streams, whatever carries them          forwarding   a pod's ports
channels         WebSocket: a byte of each message says which        spdystreams  SPDY: a stream for each

The protocol is spoken once, by the kubelet of the pod's node; an API server passes bytes through, or, where the node is
in its own process, the connection itself.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and KEP-4006 (transition from SPDY to WebSockets)
"""
