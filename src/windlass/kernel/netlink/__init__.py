"""The kernel's network configuration by netlink: the two dozen messages that a container engine needs, typed.

```
 attributes   type-length-value records, strict                      nlattr
 connection   sockets, batches, acknowledgements, dumps, errors      nlmsghdr
 link         bridge, veth, vxlan, macvlan; counters                 RTM_*LINK
 address      RTM_*ADDR      route      RTM_*ROUTE, RTM_*RULE
 neighbour    RTM_*NEIGH     namespace  RTM_*NSID
 conntrack    forgetting tracked connections                         ctnetlink
```

Functions named `new_`, `set_`, `delete_`, `get_` build messages; `read_` functions ask and decode. Every error is an
OSError that names the object and repeats the kernel's own words; every answer that is not well-formed is a
DecodeError.
"""
