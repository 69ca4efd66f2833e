"""What makes this Celery fast and loses nothing: Celery's and kombu's own extension points, chosen by settings.

Who calls whom, from Celery down to the socket:

    worker     the bootstep that has Celery use `transport`, where the protocol is explained
    poller     the event loop calls it before each poll and for each socket that can be read; it calls
    channel    kombu's channel, one for each consumer; deliveries and acknowledgements pass `acks`. It has
    claims     which decides what to do next: take a turn, wait, deliver, put back; through
    turn       the connection on which messages are claimed and acknowledged (claim.lua), and
    waits      a connection for each queue and priority, on which the server is waited for (BLMOVE); each is a
    line       a connection that is asked now and read when the poller reports it

The one rule: nothing here may block the event loop, except what the option `socket_timeout` ends (kombu sets none,
config/celeryconfig.py does),

- connecting, and redis-py's health check of a connection that was silent for long,
- the rest of an answer that has begun to arrive,
- one command and its answer on a pooled connection (`plain_client`, `_create_client`): putting back, sweeping,
  acknowledging late; and the last turn's answer when a consumer stops,

and standing down, in which all waits together have a second to answer (`waits.PATIENCE`).
"""
