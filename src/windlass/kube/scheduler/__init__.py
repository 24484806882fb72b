"""The scheduler: which node a pod goes to. Filters are masks over all nodes, scores are vectors.

scheduler    one pod after the other: filter, score, assume, bind; what did not fit waits
queue        active, backing off, unschedulable; woken by the events that matter
table        nodes as rows of arrays             counters   pods that match a term, counted for each node
podinfo      what of a pod matters, read once    filters    one function for each, under upstream's names
preemption   whose place a more important pod takes     scores     one function for each, under upstream's names
"""
