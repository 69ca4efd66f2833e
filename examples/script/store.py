"""Store ten patterns in bulk, and print what became of each."""

from pattern_storage import JobTimeout, ModelContractPatternStorage, PatternStorageClient


def contract(number: int) -> ModelContractPatternStorage:
    """Return the request that inserts one pattern."""
    return ModelContractPatternStorage(
        operation="insert",
        data={
            "pattern_name": f"Script{number}",
            "pattern_type": "code",
            "language": "python",
            "template_code": f"value = {number}",
        },
    )


def main() -> None:
    """Send all in one round trip, then read the results."""
    with PatternStorageClient() as client:
        jobs = client.submit_many([contract(number) for number in range(10)])
        for job in jobs:
            try:
                result = job.result(timeout=30)
            except JobTimeout:
                print(job.correlation_id, "no result yet; the job goes on")
            else:
                # A second run says that the pattern exists: a failed job is a result, too.
                print(job.correlation_id, "stored" if result.success else result.error)


if __name__ == "__main__":
    main()
