"""What makes this Celery fast and loses nothing: Celery's and kombu's own extension points, chosen by settings."""
