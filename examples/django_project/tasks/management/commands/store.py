"""`manage.py store NAME`: a review and the job that stores its pattern, both or neither."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pattern_storage import PatternStorageClient
from tasks.reviews import ask_for_review


class Command(BaseCommand):
    """Store a pattern, together with a review of it."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the name of the pattern."""
        parser.add_argument("name")

    def handle(self, *_: Any, **options: Any) -> None:
        """Write both in one transaction, then wait for the job: the relay publishes it after the commit."""
        with PatternStorageClient() as client:
            job = ask_for_review(client, options["name"])
            result = job.result(timeout=30)
        if not result.success:
            raise CommandError(result.error)
        self.stdout.write(f"stored {result.data['pattern_id']} by job {job.correlation_id}")
