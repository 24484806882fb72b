"""job-controller: pods that do something once, as often as was asked for.

    controller   follows jobs and pods; hands what it finds to a pass
    run          one pass over one job: what has ended, whether the job is over, which pods come and go
    tracking     how many have ended, so that none is counted twice or lost: by a finalizer on each pod
    making       the pods of a job, with their indexes
    pods, policies, indexes, backoff     what each of these asks

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""
