"""An HTTP API that stores and finds patterns: `uvicorn service:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request

from pattern_storage import AsyncPatternStorageClient, ContractInvalid, JobTimeout, ServiceUnavailable


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for the life of the service: it keeps its connections."""
    async with AsyncPatternStorageClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/patterns", status_code=202)
async def store(pattern: dict[str, Any], request: Request) -> dict[str, str]:
    """Enqueue an insert, and answer at once with the correlation id of its job."""
    try:
        job = await request.app.state.client.insert(pattern)
    except ContractInvalid as error:
        raise HTTPException(422, str(error)) from error
    except ServiceUnavailable as error:
        raise HTTPException(503, str(error)) from error
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
async def find(request: Request, name_contains: str, limit: int = 10) -> list[dict[str, Any]]:
    """Find patterns by a part of their names."""
    job = await request.app.state.client.query(name_contains=name_contains, limit=limit)
    found = await job.result(timeout=5)
    if not found.success:
        raise HTTPException(422, found.error)
    return found.data["patterns"]
