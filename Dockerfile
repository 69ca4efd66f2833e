# One image for every service: worker, beat and the one-shot migration.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY storage storage
COPY tasks tasks
RUN python -m venv /opt/pattern-storage && /opt/pattern-storage/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/pattern-storage pattern-storage
COPY --from=build /opt/pattern-storage /opt/pattern-storage
ENV PATH="/opt/pattern-storage/bin:$PATH" PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/pattern-storage
CMD ["celery", "-A", "tasks", "worker", "--loglevel", "INFO"]
