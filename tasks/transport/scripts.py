"""The transport's Lua scripts: read once, sent by their digest."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from pattern_storage.tasks.resp import Argument, bulk


class Script:
    """A Lua script beside this module, by its name without the ending; what all of them need stands before it."""

    def __init__(self, name: str) -> None:
        self.text = "\n".join(files(__package__).joinpath(f"{part}.lua").read_text() for part in ("common", name))
        # The name Redis gives a script, not a secret.
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: list[str], arguments: list[Any]) -> tuple[Any, ...]:
        """Return the command that runs it, for a server that knows it."""
        return "EVALSHA", self.digest, len(keys), *keys, *arguments

    def packed(self, key_count: int, keys: bytes, arguments: Sequence[Argument]) -> bytes:
        """Return the same command as Redis reads it, of keys that are packed already."""
        count = 3 + key_count + len(arguments)
        return b"*%d\r\n%b%b%b" % (count, bulk(("EVALSHA", self.digest, key_count)), keys, bulk(arguments))

    def text_command(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the same command for a server that does not, because it has been restarted."""
        return "EVAL", self.text, *command[2:]

    def send(self, client: Any, command: tuple[Any, ...]) -> Any:
        """Send such a command and wait for its reply."""
        try:
            return client.execute_command(*command)
        except NoScriptError:
            return client.execute_command(*self.text_command(command))

    def run(self, client: Any, keys: list[str], arguments: list[Any]) -> Any:
        """Run it and wait for its reply."""
        return self.send(client, self.command(keys, arguments))


CLAIM = Script("claim")
RELEASE = Script("release")
SWEEP = Script("sweep")
PUT_ASIDE = Script("put_aside")
RESTORE = Script("restore")
