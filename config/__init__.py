"""Configuration from the environment: settings, Celery's settings, broker differences."""
