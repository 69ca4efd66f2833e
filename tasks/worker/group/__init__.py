"""Group execution in the worker: jobs that are at hand together share one pool call and one transaction.

A job that goes alone costs a pool message, a trip to the event loop thread and back, a transaction and two writes to
Redis; most of that costs as much for many jobs as for one. The modules, in the order in which a job meets them:

    strategy    in the main process: gives plain jobs to the grouper, and all other messages to Celery
    grouper     collects requests, and gives them to the pool when a process is free, whole groups one ahead of that
    call        one pool call for many requests, which hands on the pool's reports to each request
    child       in the pool process: one transaction, then all results at once
    conclusion  of each job after that: by Celery's own tracer where a signal or a hook has a receiver

No job waits for others: jobs that arrived in one iteration of the event loop, or while all processes were busy, go
together. One that is alone is a group of one, which costs less than Celery's own way; `tasks.worker.pool` has a shorter
one for it.

Messages that are not plain (`tasks.worker.plain_message`) go alone, on Celery's own path: jobs that were delivered
before, since one that kills its process must not take others' attempts along, jobs with options, limits or an expiry of
their own, and jobs with links, whose callbacks may need the result in Redis at once. So do jobs that a group could not
execute (`child`). The order is the same as alone: commit, result, acknowledgement. The transaction itself is in
`storage.group`.
"""
