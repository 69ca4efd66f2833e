"""A real PgBouncer of Debian's package before the embedded PostgreSQL, in transaction mode."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fix_process import ProcessGroup, clean_environment, free_port, needs

#: Two server connections for everybody: a session that kept one would be noticed.
CONFIGURATION = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {directory}/users.txt
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
"""


class PgBouncer:
    """Pools the connections to every database of one server."""

    def __init__(self, directory: Path, server_url: str) -> None:
        program, server, self.port = needs("pgbouncer"), urlsplit(server_url), free_port()
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(host=server.hostname, server_port=server.port, port=self.port, directory=directory)
        )
        (directory / "users.txt").write_text(f'"{server.username}" "{server.password}"\n')
        # It refuses root, as PostgreSQL does.
        directory.chmod(0o755)
        log = directory / "pgbouncer.log"
        self.process = ProcessGroup(
            "pgbouncer", [str(configuration)], clean_environment(), log, program=[program], user="nobody"
        )
        self.process.wait_for("process up")

    def url(self, database_url: str) -> str:
        """Return the URL of a database by way of PgBouncer."""
        parts = urlsplit(database_url)
        return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}").geturl()

    def close(self) -> None:
        self.process.kill()
        self.process.discard()


@pytest.fixture(scope="module")
def pgbouncer(postgres_url: str) -> Iterator[PgBouncer]:
    """A PgBouncer for the tests of a module."""
    directory = Path(tempfile.mkdtemp(prefix="pattern-storage-pgbouncer-"))
    try:
        with closing(PgBouncer(directory, postgres_url)) as pooler:
            yield pooler
    finally:
        shutil.rmtree(directory)
