"""Group execution in the worker: jobs that are at hand together share one pool call and one transaction.

A job that goes alone costs a pool message, a trip to the event loop thread and back, a transaction and two writes to
Redis; most of that costs as much for many jobs as for one. Who does what:

    strategy   in the worker's main process: makes a request of a message, a lean one of a plain job's (`request`)
    grouper    collects requests, and gives them to the pool when a process is free, whole groups one ahead of that
    call       one pool call for many requests; what Celery's pool reports of it is reported to each request
    child      in the pool process: one transaction, then all results at once
    conclusion of each job after that: Celery's own tracer, where anybody listens to it

Nothing waits for company: what arrived in one turn of the event loop, or while all processes were busy, goes together.
One job that is alone goes the same way, which costs less than Celery's own.
What the group could not do, in whole or in part, goes alone, on Celery's own path; see `grouper.can_share`.
Order as ever: commit, result, acknowledgement. The transaction itself is `storage.group`.
"""
