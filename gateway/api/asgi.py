"""Puts the API together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from litestar import Litestar, Response, Router
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import HTTPRouteHandler

from gateway.api.body import ClientGone
from gateway.api.front import Front, request_id_of
from gateway.api.replies import AnyRequest, problem_reply
from gateway.errors import Refusal, StorageUnavailable, Unreadable
from gateway.ids import Ids
from gateway.telemetry import Metrics, get_logger

_log = get_logger("gateway.http")

Routes = Router | HTTPRouteHandler
CLIENT_GONE = 499
"""Nobody hears it; it tells such requests apart in the metrics."""


def build_api(routes: Sequence[Routes], *, ids: Ids, metrics: Metrics) -> Front:
    """Return the ASGI application."""
    app = Litestar(
        route_handlers=list(routes),
        openapi_config=None,
        logging_config=None,
        exception_handlers={
            Refusal: _refused,
            StorageUnavailable: _storage,
            Unreadable: _unreadable,
            ClientGone: _gone,
            HTTPException: _framework,
            # Litestar would otherwise answer our own mistakes with a document of its own.
            Exception: _failed,
        },
    )
    return Front(app, ids, metrics, allowed=_allowed(app))  # type: ignore[arg-type]  # Litestar's scope is a TypedDict of the same keys


def _allowed(app: Litestar) -> dict[str, bytes]:
    """Return, by path template, the methods to name in Allow.

    Litestar's own answer to OPTIONS names only the handler that was registered first.
    """
    found: dict[str, bytes] = {}
    for route in app.routes:
        methods = set(route.methods)
        if "GET" in methods:
            methods.add("HEAD")
        found[route.path_format] = ", ".join(sorted(methods)).encode()
    return found


def _refused(request: AnyRequest, error: Refusal) -> Response[bytes]:
    return problem_reply(error, _id(request))


def _storage(request: AnyRequest, error: StorageUnavailable) -> Response[bytes]:
    _log.error("http.storage", error=str(error))
    detail = "The database cannot be used just now. Repeating with the same Idempotency-Key is safe."
    refusal = Refusal("storage-unavailable", detail, headers={"Retry-After": "2"})
    return problem_reply(refusal, _id(request))


def _unreadable(request: AnyRequest, error: Unreadable) -> Response[bytes]:
    _log.error("http.unreadable", error=str(error))
    detail = "The job holds something that this version of the gateway does not know. Nothing of it is lost."
    refusal = Refusal("job-unreadable", detail, headers={"Retry-After": "30"})
    return problem_reply(refusal, _id(request))


def _gone(_request: AnyRequest, _error: ClientGone) -> Response[bytes]:
    return Response(content=b"", status_code=CLIENT_GONE)


def _failed(request: AnyRequest, error: Exception) -> Response[bytes]:
    _log.error("http.exception", error=str(error), exc_info=error)
    detail = "Something went wrong in the gateway. Its log has the details under this request's id."
    return problem_reply(Refusal("internal", detail), _id(request))


def _framework(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """Translate what the framework refuses by itself: unknown paths, wrong methods, odd path parameters."""
    if isinstance(error, MethodNotAllowedException):
        # Litestar does not name HEAD here; `Front` serves it wherever there is GET.
        methods = {name for value in (error.headers or {}).values() for name in value.split(", ")}
        methods |= {"HEAD"} if "GET" in methods else set()
        headers = {"Allow": ", ".join(sorted(methods))}
        detail = f"{request.method} is not possible here."
        return problem_reply(Refusal("method-not-allowed", detail, headers=headers), _id(request))
    if isinstance(error, NotFoundException) or error.status_code < 500:
        return problem_reply(Refusal("not-found", "There is nothing here."), _id(request))
    return _failed(request, error)


def _id(request: AnyRequest) -> str:
    return request_id_of(cast("Mapping[str, object]", request.scope))
