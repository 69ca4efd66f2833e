"""pattern-storage beside the queues that people use instead: same job, same servers, same run.

`programs/` holds one small program a peer, which runs in an environment of that peer's own.
"""
