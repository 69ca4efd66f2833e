"""The memory that a worker's main process shares with its pool."""

import os
import signal

from pattern_storage.tasks.worker.pool.permit import MAX_SIZE, Permit


def test_a_killed_process_leaves_its_message() -> None:
    """The largest that is taken, and the main process takes it once."""
    permit, message = Permit(), os.urandom(MAX_SIZE)
    permit.granted = True
    if not (child := os.fork()):
        permit.client_id = 7
        if permit.granted and not permit.busy:
            permit.hold(b"before")
            permit.release()
            permit.hold(message)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert permit.client_id == 7
    assert permit.take() == message
    assert (permit.client_id, permit.take()) == (0, b"")


def test_permit_and_load_are_two_things() -> None:
    permit = Permit()
    assert (permit.granted, permit.busy) == (False, False)
    permit.busy = True
    assert (permit.granted, permit.busy) == (False, True)
    permit.granted, permit.busy = True, False
    assert (permit.granted, permit.busy) == (True, False)
