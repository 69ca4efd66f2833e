"""The project's own tests: `python manage.py test`, in Django's own test database."""

from django.core.management import call_command
from django.test import TestCase, TransactionTestCase

from pattern_storage import PatternStorageClient
from pattern_storage.testing import DjangoInlineJobs, RecordedJobs
from tasks.models import Review
from tasks.reviews import ask_for_review


class AskingTest(RecordedJobs, TestCase):
    """In Django's own transaction, which never commits: jobs are noted."""

    def test_a_review_and_its_job(self) -> None:
        with PatternStorageClient() as client:
            ask_for_review(client, "Visitor")
        review = Review.objects.get()
        self.assertEqual(review.title, "Look at Visitor")
        self.assert_enqueued(operation="insert", pattern_name="Visitor", correlation_id=review.correlation_id)


class StoringTest(DjangoInlineJobs, TransactionTestCase):
    """With real commits: jobs are executed, in the same database."""

    def test_the_pattern_is_stored(self) -> None:
        with PatternStorageClient() as client:
            job = ask_for_review(client, "Visitor")
            self.assertTrue(job.result().success)
            self.assertEqual(client.query(pattern_name="Visitor").result().data.count, 1)

    def test_the_command(self) -> None:
        call_command("store", "Commanded")
        self.assert_enqueued(pattern_name="Commanded", outbox=True)
