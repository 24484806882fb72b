"""The node agent: what upstream calls the kubelet. Pods of the API become containers of the engine in this process.

agent            starts and stops all of it          registration   the Node object, its status and its lease
pods             which pods this node has            worker         one pod's life, one task
plan             what a pod needs next (pure)        status         what the API is told (pure)
runtime          containers and sandboxes            containers     a container's spec in the engine's words (pure)
images           pull policies and back-off          probes/        liveness, readiness, startup
volumes/         one file for each kind              hooks          postStart, preStop
environment      variables; downward API (pure)      namefiles      hosts, resolv.conf (pure)
podcgroups       a control group for each pod        resources      requests and limits as the kernel counts (pure)
processroot      process 1 of shared PID namespaces  manifests      pods from the node's own files
mirrors          how the API shows those             resize         what is granted of a resize (pure)
resizer          carries it out                      thresholds     when the node is short of something (pure)
pressure         frees, and evicts pods, then        eviction       which pod goes first (pure)
podnetwork       the bridge that pods are on         address        the node's, as the machine's changes
measures         what is left, and what pods use     imagegc        removes images that nothing uses
"""
