"""An HTTP API that stores and finds patterns: `uvicorn service:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from pattern_storage import (
    AsyncPatternStorageClient,
    ContractInvalid,
    JobTimeout,
    ModelPatternRecord,
    Pattern,
    ServiceUnavailable,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for the life of the service: it keeps its connections."""
    async with AsyncPatternStorageClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(ContractInvalid)
async def refused(_: Request, error: ContractInvalid) -> JSONResponse:
    """Answer with the sentence that names what is wrong."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(ServiceUnavailable)
async def unavailable(_: Request, error: ServiceUnavailable) -> JSONResponse:
    """Answer that a server is down; nothing hangs."""
    return JSONResponse({"detail": str(error)}, 503)


@app.post("/patterns", status_code=202)
async def store(pattern: Pattern, request: Request) -> dict[str, str]:
    """Enqueue an insert, and answer at once with the correlation id of its job."""
    job = await request.app.state.client.insert(pattern)
    return {"correlation_id": str(job.correlation_id)}


@app.get("/jobs/{correlation_id}")
async def result(correlation_id: UUID, request: Request) -> dict[str, Any]:
    """Answer with the result of a job, waiting for it for five seconds."""
    job = request.app.state.client.get(correlation_id)
    try:
        return (await job.result(timeout=5)).to_dict()
    except JobTimeout as error:
        raise HTTPException(404, str(error)) from error


@app.get("/patterns")
async def find(request: Request, name_contains: str, limit: int = 10) -> list[ModelPatternRecord]:
    """Find patterns by a part of their names."""
    job = await request.app.state.client.query(name_contains=name_contains, limit=limit)
    found = await job.result(timeout=5)
    if not found.success:
        raise HTTPException(422, found.error)
    return found.data.patterns
