"""Redis over TLS: whichever way the URL says so, client, worker and results take it for the same."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pattern_storage.tasks.client import BrokerUnavailable, PatternStorageClient
from tests.fix_celery import launch_worker
from tests.fix_process import DEADLINE
from tests.fix_storage import make_pattern
from tests.fix_tls import tls_in_front_of


def test_jobs_over_tls(redis_url: str, database_url: str, tmp_path: Path) -> None:
    plain = urlsplit(redis_url)
    with tls_in_front_of(plain.port or 6379, tmp_path) as (port, authority):
        account, _, _ = plain.netloc.rpartition("@")
        address = f"rediss://{account}@127.0.0.1:{port}{plain.path}"
        trusting = f"{address}?ssl_ca_certs={authority}"
        # Without ssl_cert_reqs, with which stock Celery does not start.
        worker = launch_worker(database_url, trusting, tmp_path / "worker.log", concurrency=1)
        try:
            for url in (trusting, f"{trusting}&ssl_cert_reqs=CERT_REQUIRED", f"{address}?ssl_cert_reqs=none"):
                with PatternStorageClient(redis_url=url) as client:
                    assert client.insert(make_pattern()).result(DEADLINE).success
            with (
                PatternStorageClient(redis_url=address) as client,
                pytest.raises(BrokerUnavailable, match="certificate"),
            ):
                client.insert(make_pattern())
            assert worker.stop() == 0
        finally:
            worker.teardown()
