"""kombu's Redis transport with atomic claims: extension points of Celery and kombu, chosen by settings.

Which module calls which, from Celery down to the socket:

    bootstep           has a Celery worker use `transport`, whose docstring explains the protocol
    poller             kombu's poller: the event loop calls it before each poll and for each readable socket; it calls
    channel            kombu's channel, one for each consumer. It has the Redis clients of `channel_clients`; each
                       delivery and acknowledgement passes through `qos`. What it claims is decided by
    claims             the claims of a channel: when to claim, to wait, to deliver and to put back; with
    acknowledgements   the acknowledgements, which wait a few milliseconds for a claim that takes them along,
    restore            redelivery of messages that other workers left behind,
    delegated_claims   what a process of the pool claims on behalf of the channel, and
    queue_keys         the keys of its queues, with the arguments of a claim about them. It waits and claims through
    claim_call         the connection that messages are claimed and acknowledged on (claim.lua),
    blocking_pop       a connection for each queue of short jobs, which waits on the server (BLMOVE), and
    key_watch          one connection that reports messages under all other queue keys (CLIENT TRACKING); each is a
    polled_connection  a Redis connection that is written now and read when the poller reports it; `refusal` is the
                       state of a server that refuses its commands for now

`scripts` has the Lua scripts, `message` parses what Redis returns.

The one rule: nothing here may block the event loop, except these, which the option `socket_timeout` ends (kombu sets
none, config/celeryconfig.py does):

- connecting, and redis-py's health check of a connection that was silent for long,
- the rest of a reply that has begun to arrive,
- one command and its reply on a pooled connection (`plain_client`, `_create_client`): putting back, sweeping,
  acknowledging late; and the reply of the last claim when a consumer stops,

and `Claims.stop_waiting` and `DelegatedClaims.leave_waiting`, in which all blocking pops together have a second to
reply (`blocking_pop.UNBLOCK_TIMEOUT`).
"""
