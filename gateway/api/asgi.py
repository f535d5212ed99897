"""Puts the API together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from litestar import Litestar, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.router import Router

from gateway.api.front import Front, request_id_of
from gateway.api.replies import AnyRequest, problem_reply
from gateway.errors import Refusal, StorageUnavailable
from gateway.ids import Ids
from gateway.telemetry import Metrics, get_logger

_log = get_logger("gateway.http")


def build_api(routes: Sequence[Router | HTTPRouteHandler], *, ids: Ids, metrics: Metrics) -> Front:
    """Return the ASGI application."""
    app = Litestar(
        route_handlers=list(routes),
        openapi_config=None,
        logging_config=None,
        exception_handlers={
            Refusal: _refused,
            StorageUnavailable: _storage,
            HTTPException: _framework,
        },
        # Litestar would otherwise answer errors of its own making with its own documents.
        debug=False,
    )
    return Front(app, ids, metrics)  # type: ignore[arg-type]  # Litestar's scope is a TypedDict of the same keys


def route_templates(routes: Sequence[Router | HTTPRouteHandler]) -> list[str]:
    """Return every path template served, in OpenAPI's notation."""
    app = Litestar(route_handlers=list(routes), openapi_config=None, logging_config=None)
    return sorted(route.path_format for route in app.routes)


def _refused(request: AnyRequest, error: Refusal) -> Response[bytes]:
    return problem_reply(error, _id(request))


def _storage(request: AnyRequest, error: StorageUnavailable) -> Response[bytes]:
    _log.error("http.storage", error=str(error))
    detail = "The database cannot be used just now. Repeating with the same Idempotency-Key is safe."
    refusal = Refusal("storage-unavailable", detail, headers={"Retry-After": "2"})
    return problem_reply(refusal, _id(request))


def _framework(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """Translate what the framework refuses by itself: unknown paths, wrong methods, odd path parameters."""
    if isinstance(error, MethodNotAllowedException):
        headers = {name.title(): value for name, value in (error.headers or {}).items()}
        detail = f"{request.method} is not possible here."
        return problem_reply(Refusal("method-not-allowed", detail, headers=headers), _id(request))
    if isinstance(error, NotFoundException) or error.status_code < 500:
        return problem_reply(Refusal("not-found", "There is nothing here."), _id(request))
    _log.error("http.framework", error=str(error))
    return problem_reply(Refusal("internal", "Something went wrong in the gateway."), _id(request))


def _id(request: AnyRequest) -> str:
    return request_id_of(cast("Mapping[str, object]", request.scope))
