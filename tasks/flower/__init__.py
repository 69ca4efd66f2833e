"""Flower with our settings and job descriptions, and without secrets: `celery -A pattern_storage flower`."""
