"""Configuration from the environment: settings, Celery's and Flower's settings, broker differences."""
