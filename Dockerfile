# One image for every service: workers, beat, relay, Flower and the one-shot migration.
FROM python:3.13-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pattern_storage pattern_storage
COPY config config
COPY storage storage
COPY tasks tasks
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim AS installed
COPY --from=wheel /wheels /wheels
# Beside worker and Flower: what imports may need (Parquet, s3://, gs://), and traces. None of it: --build-arg EXTRAS=
ARG EXTRAS=parquet,s3,gcs,otel
# Compiled here: the image's file system is read-only when it runs.
RUN python -m venv /opt/pattern-storage \
    && set -- /wheels/*.whl \
    && /opt/pattern-storage/bin/pip install --no-cache-dir --compile "$1[worker,flower${EXTRAS:+,$EXTRAS}]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/pattern-storage pattern-storage
COPY --from=installed /opt/pattern-storage /opt/pattern-storage
# A worker that is told to stop lets running jobs end and hands the others back (Celery's soft shutdown).
ENV PATH="/opt/pattern-storage/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 REMAP_SIGTERM=SIGQUIT
USER 10001
WORKDIR /var/lib/pattern-storage
# Of the worker below; the other services' are in docker-compose.yml.
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s --retries=3 \
    CMD ["pattern-storage", "health", "worker"]
CMD ["celery", "-A", "pattern_storage", "worker", "-Q", "storage,batch", "--loglevel", "INFO"]
