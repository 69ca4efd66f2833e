"""Code of a Celery worker: task classes, message validation, runtime, maintenance, logs and events."""
