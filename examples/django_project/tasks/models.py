"""Models of the project itself."""

from django.db import models


class Review(models.Model):
    """A review of a pattern that somebody has to do, and the job that stores the pattern."""

    title = models.CharField(max_length=200)
    correlation_id = models.UUIDField(unique=True)
