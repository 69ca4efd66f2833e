"""`manage.py store NAME`: a review and the job that stores its pattern, both or neither."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from pattern_storage import ModelContractPatternStorage, PatternStorageClient
from tasks.models import Review


class Command(BaseCommand):
    """Store a pattern, together with a review of it."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the name of the pattern."""
        parser.add_argument("name")

    def handle(self, *_: Any, **options: Any) -> None:
        """Write both in one transaction, then wait for the job: the relay publishes it after the commit."""
        contract = ModelContractPatternStorage(
            operation="insert",
            data={
                "pattern_name": options["name"],
                "pattern_type": "code",
                "language": "python",
                "template_code": "...",
            },
        )
        with PatternStorageClient() as client:
            with transaction.atomic():
                Review.objects.create(title=f"Look at {options['name']}", correlation_id=contract.correlation_id)
                # Django's own psycopg connection, in the transaction that is open on it.
                job = client.submit_in(connection, contract)
            result = job.result(timeout=30)
        if not result.success:
            raise CommandError(result.error)
        self.stdout.write(f"stored {result.data['pattern_id']} by job {job.correlation_id}")
