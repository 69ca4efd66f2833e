"""An HTTP API that stores, changes and finds patterns, and takes orders: `uvicorn service:app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from pattern_storage import (
    AsyncPatternStorageClient,
    ContractInvalid,
    JobTimeout,
    ModelContractPatternStorage,
    ModelPatternRecord,
    Pattern,
    PatternChanges,
    ServiceUnavailable,
)


async def create_orders(connection: AsyncConnection) -> None:
    """Create the table of this service; in yours, a migration does."""
    await connection.execute("CREATE TABLE IF NOT EXISTS orders (correlation_id uuid PRIMARY KEY, title text UNIQUE)")
    await connection.commit()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client and one pool for the life of the service; the pool connects when the first order comes."""
    database = os.environ.get("DATABASE_URL", "")
    pool = AsyncConnectionPool(database, min_size=0, max_size=4, configure=create_orders, open=False)
    async with AsyncPatternStorageClient() as client, pool:
        app.state.client, app.state.pool = client, pool
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


@app.patch("/patterns/{pattern_id}")
async def change(pattern_id: UUID, changes: PatternChanges, expect: datetime, request: Request) -> dict[str, Any]:
    """Change a pattern, unless it was updated since `expect`, the `updated_at` that the caller has seen."""
    job = await request.app.state.client.update(pattern_id, changes, expect=expect)
    result = await job.result(timeout=5)
    if result.success:
        return result.to_dict()["data"]
    if result.metadata["error_type"] == "version_conflict":
        raise HTTPException(409, {"error": result.error, "updated_at": result.metadata["present_updated_at"]})
    # It is a validation_error, as a wrong value is.
    raise HTTPException(404 if result.error.startswith("Pattern not found") else 422, result.error)


class Order(BaseModel):
    """The body of an order."""

    title: str
    pattern: Pattern


async def transaction(request: Request) -> AsyncIterator[AsyncConnection]:
    """Open a transaction for a request: committed when its route returns, rolled back when that raises."""
    async with request.app.state.pool.connection() as connection:
        yield connection


#: By default FastAPI ends a dependency after it has answered: a 202 would go out before the commit, which may fail.
Transaction = Annotated[AsyncConnection, Depends(transaction, scope="function")]


@app.post("/orders", status_code=202)
async def order(placed: Order, connection: Transaction, request: Request) -> dict[str, str]:
    """Store an order and the job of its pattern, both or neither."""
    contract = ModelContractPatternStorage(operation="insert", data=placed.pattern)
    job = await request.app.state.client.submit_in(connection, contract)
    await connection.execute("INSERT INTO orders VALUES (%s, %s)", [job.correlation_id, placed.title])
    return {"correlation_id": str(job.correlation_id)}
