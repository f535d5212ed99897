"""Health, metrics, the API's description, and the pages that explain problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from litestar import get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from gateway.api.auth import Doorkeeper
from gateway.api.docs import docs_page
from gateway.api.problems import PAGE_POLICY, problem_page
from gateway.api.replies import JSON, AnyRequest, Reply, json_reply, raw_reply
from gateway.api.schemas import HealthView
from gateway.telemetry import Metrics

HTML = "text/html; charset=utf-8"


class OpsDesk(Struct, frozen=True, kw_only=True):
    """What the routes work with."""

    door: Doorkeeper
    metrics: Metrics
    metrics_open: bool
    ready: Callable[[], Awaitable[str | None]]
    """Returns why the gateway cannot work just now, or None."""
    openapi: bytes


def probe_routes(desk: OpsDesk) -> list[HTTPRouteHandler]:
    """Return the routes for those who watch the process."""

    @get("/health/live")
    async def live() -> Reply:
        return json_reply(HealthView(status="ok", reason=None))

    @get("/health/ready")
    async def ready() -> Reply:
        reason = await desk.ready()
        if reason is None:
            return json_reply(HealthView(status="ok", reason=None))
        return json_reply(HealthView(status="unavailable", reason=reason), status=503)

    @get("/metrics")
    async def metrics(request: AnyRequest) -> Reply:
        if not desk.metrics_open:
            await desk.door.admit_watcher(request)
        body, media_type = desk.metrics.render()
        return raw_reply(body, media_type)

    return [live, ready, metrics]


def reader_routes(desk: OpsDesk) -> list[HTTPRouteHandler]:
    """Return the routes for people."""
    docs = docs_page(desk.openapi).encode()
    page: Mapping[str, str] = {"content-security-policy": PAGE_POLICY}

    @get("/openapi.json")
    async def openapi() -> Reply:
        return raw_reply(desk.openapi, JSON)

    @get("/docs")
    async def documentation() -> Reply:
        return raw_reply(docs, HTML, headers=page)

    @get("/problems/{slug:str}")
    async def problem(request: AnyRequest) -> Reply:
        return raw_reply(problem_page(request.path_params["slug"]).encode(), HTML, headers=page)

    return [openapi, documentation, problem]
