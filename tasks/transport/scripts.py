"""The transport's Lua scripts: read from their files once, sent by their digest."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from pattern_storage.tasks.resp import Argument, bulk


class Script:
    """A Lua script, by the name of its file without the ending; common.lua stands before it."""

    def __init__(self, name: str) -> None:
        self.text = "\n".join(files(__package__).joinpath(f"{part}.lua").read_text() for part in ("common", name))
        # The name Redis gives a script, not a secret.
        self._digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def packed(self, key_count: int, keys: bytes, arguments: Sequence[Argument]) -> bytes:
        """Return the command that runs it as bytes; the keys are packed already. A server may reply NOSCRIPT."""
        count = 3 + key_count + len(arguments)
        return b"*%d\r\n%b%b%b" % (count, bulk(("EVALSHA", self._digest, key_count)), keys, bulk(arguments))

    def run(self, client: Any, keys: list[str], arguments: list[Any]) -> Any:
        """Run it on a client of redis-py, and wait for its reply."""
        try:
            return client.evalsha(self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            # The server has forgotten it, or has never run it.
            return client.eval(self.text, len(keys), *keys, *arguments)


CLAIM = Script("claim")
RELEASE = Script("release")
SWEEP = Script("sweep")
PUT_ASIDE = Script("put_aside")
RESTORE = Script("restore")
RENEW = Script("renew")
OVERDUE = Script("overdue")
