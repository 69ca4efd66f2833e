"""Extensions of Flower (`celery -A pattern_storage flower`): settings, job descriptions, and no secrets."""
