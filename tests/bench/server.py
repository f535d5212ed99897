"""One server under test, on one core: `server.py ours|bare PORT [DATABASE]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import uvloop
from litestar import Litestar, get, post

from gateway.api.schemas import CreateJob
from gateway.api.server import bind, build_server
from gateway.app.gateway import Gateway
from gateway.app.heap import keep_what_is_loaded
from gateway.registry import load_adapters
from gateway.settings import load
from gateway.settings.model import Server
from gateway.telemetry import Redactor, configure


class Reply(msgspec.Struct):
    id: str
    status: str


def bare() -> Any:
    """The framework alone: it decodes the same body by itself, stores nothing, answers two fields."""

    @post("/v1/jobs", status_code=202)
    async def create(data: CreateJob) -> Reply:
        return Reply(id=data.model, status="queued")

    @get("/v1/jobs/{job_id:str}")
    async def read(job_id: str) -> Reply:
        return Reply(id=job_id, status="queued")

    return Litestar(route_handlers=[create, read], openapi_config=None, logging_config=None)


async def main() -> None:
    role, port = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, {0})
    listener = bind("127.0.0.1", port)
    if role == "bare":
        app = bare()
        keep_what_is_loaded()  # as ours does
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        await uvicorn.Server(config).serve(sockets=[listener])
        return
    registry = load_adapters()
    environ = {spec.key_env: "bench-key-0123456789" for spec in registry.specs}
    environ["MOTION_GATEWAY_METRICS__OPEN"] = "true"
    environ["MOTION_GATEWAY_DATABASE"] = f"sqlite:///{sys.argv[3]}"
    settings = load(registry.specs, environ=environ, cwd=Path.cwd()).settings
    configure("json", "info", Redactor(settings.secrets()), sys.stderr)
    gateway = Gateway(settings, registry)  # the worker stays off
    keep_what_is_loaded()  # as `serve` does
    await build_server(gateway.asgi, Server()).serve(sockets=[listener])
    await gateway.close()


if __name__ == "__main__":
    uvloop.run(main())
