"""Reviews: a row of the project and a job of pattern-storage in one transaction."""

from uuid import uuid4

from django.db import connection, transaction

from pattern_storage import Job, ModelContractPatternStorage, PatternStorageClient
from tasks.models import Review


def ask_for_review(client: PatternStorageClient, name: str) -> Job:
    """Store a pattern, and ask somebody to look at it: both, or neither."""
    contract = ModelContractPatternStorage(
        operation="insert",
        correlation_id=uuid4(),
        data={"pattern_name": name, "pattern_type": "code", "language": "python", "template_code": "..."},
    )
    with transaction.atomic():
        Review.objects.create(title=f"Look at {name}", correlation_id=contract.correlation_id)
        return client.submit_in(connection, contract)
