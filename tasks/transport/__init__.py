"""kombu's Redis transport with atomic claims: extension points of Celery and kombu, chosen by settings.

Who calls whom, from Celery down to the socket:

    bootstep           has a Celery worker use `transport`, where the protocol is explained
    poller             kombu's poller: the event loop calls it before each poll and for each readable socket; it calls
    channel            kombu's channel, one for each consumer; deliveries and acknowledgements pass `qos`. It has
    claims             the claims of a channel: when to claim, to wait, to deliver, to put back; with
    early_delivery     what is delivered before its claim is answered, and
    acknowledgements   which wait a few milliseconds for a claim that takes them along; of
    queue_keys         the keys of its queues, with what the commands say of them, through
    claim_call         the connection on which messages are claimed and acknowledged (claim.lua), and
    blocking_pop       a connection that waits on the server for each queue of short jobs (BLMOVE), and
    key_watch          one that is told of messages under all other queue keys (CLIENT TRACKING); each is a
    polled_connection  a Redis connection that is written now and read when the poller reports it

The one rule: nothing here may block the event loop, except what the option `socket_timeout` ends (kombu sets none,
config/celeryconfig.py does),

- connecting, and redis-py's health check of a connection that was silent for long,
- the rest of a reply that has begun to arrive,
- one command and its reply on a pooled connection (`plain_client`, `_create_client`): putting back, sweeping,
  acknowledging late; and the reply of the last claim when a consumer stops,

and `stop_waiting`, in which all blocking pops together have a second to reply (`blocking_pop.UNBLOCK_TIMEOUT`).
"""
