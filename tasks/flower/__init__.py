"""Extensions of Flower (`celery -A pattern_storage flower`): pages, roles, readable jobs, and no secrets."""
