"""What Flower shows, and to whom: `celery -A tasks flower` with our settings, our words and nothing secret."""
