"""deployment-controller: replica sets, one for each revision of a template, and the way from one to the next.

    controller   what is done for one Deployment, in order
    revisions    which replica set is whose revision; names, hashes, annotations, history
    scaling      sizes of replica sets, also while two revisions share the replicas
    strategies   RollingUpdate and Recreate
    progress     status, conditions, deadlines

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""
