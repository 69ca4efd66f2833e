"""What a Celery worker runs: task classes, message validation, runtime, maintenance, logs and events."""
