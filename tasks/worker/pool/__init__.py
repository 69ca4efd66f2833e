"""The prefork pool, one of whose processes claims a job that comes alone from Redis itself.

Such a job goes a shorter way than that of `tasks.worker.group`: the main process hears of it when it has ended. The
modules, from the pool to the job:

    pool               Celery's prefork pool, which writes calls at once, and whole groups ahead of a free process
    process            the loop of its processes, in which one of them claims
    pool_jobs          in the main process: permits that, and withdraws the permit
    permit             the memory in which it is permitted, and where the job of a process that was killed is found
    pool_claims        in the process: waits on Redis and for calls, and executes a plain job as a group of one
    claim_connections  its connections to Redis
    pool_reports       in the main process: does its share of each job, of some together, when they have ended
    long_job           a job that takes long, which has its time limits and can be terminated as any other
"""
