"""cronjob-controller: jobs by the clock.

    controller   jobs that are due, that are too many, status

When a schedule comes next is in `kube.api.cron`, as validation asks, too.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""
