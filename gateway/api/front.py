"""Outside the framework: names each request, times it, and answers when nothing else could."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from gateway.api.problems import problem_body
from gateway.api.rate_fields import RATE_FIELDS
from gateway.api.replies import PROBLEM
from gateway.errors import Refusal
from gateway.ids import REQUEST, Ids
from gateway.telemetry import Metrics, get_logger
from gateway.telemetry.logs import request_id as logged_request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]

REQUEST_ID = "motion_gateway.request_id"
HEAD_ONLY = "motion_gateway.head_only"
"""In the scope of a request whose answer's body nobody gets: what has no end must not begin."""
ASIDE_S = "motion_gateway.aside_s"
"""In the scope: seconds for which a client was kept at its own wish, which are no time of ours."""
CALLBACKS = "/v1/callbacks/"
_GIVEN_ID = re.compile(rb"[!-~]{1,128}")

_log = get_logger("gateway.http")


def request_id_of(scope: Mapping[str, object]) -> str:
    """Return the id that `Front` gave to the request of this ASGI scope."""
    return str(scope[REQUEST_ID])


class Front:
    """Wraps the application.

    Args:
        app: answers.
        ids: names requests that bring no id.
        metrics: counts them.
        allowed: the value of Allow, by path template.
    """

    def __init__(self, app: App, ids: Ids, metrics: Metrics, *, allowed: Mapping[str, bytes]) -> None:
        self._app = app
        self._ids = ids
        self._metrics = metrics
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request, or its lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = self._name(scope)
        header = (b"x-request-id", request_id.encode("latin-1"))
        status = 0
        started = time.perf_counter()

        # HEAD is answered as GET; the server leaves the body out by the scope it keeps itself.
        inner: Scope = {**scope, "method": "GET", HEAD_ONLY: True} if scope["method"] == "HEAD" else scope

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.get("headers", ())
                if status in {204, 405}:
                    headers = self._with_allowed(inner, headers)
                message["headers"] = [*headers, *inner.get(RATE_FIELDS, ()), header]
            await send(message)

        token = logged_request.set(request_id)
        try:
            await self._app(inner, receive, answer)
        except Exception as error:  # noqa: BLE001  (the last resort: no input gives a bare 500)
            _log.exception("http.failed", error=str(error))
            if status == 0:
                await _answer_internal(answer, request_id)
        finally:
            seconds = time.perf_counter() - started - inner.get(ASIDE_S, 0.0)
            self._observe(inner, scope["method"], status, max(0.0, seconds))
            logged_request.reset(token)

    def _name(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _GIVEN_ID.fullmatch(value) is not None:
                given: str = value.decode("ascii")
                return given
        return self._ids.new(REQUEST)

    def _with_allowed(self, scope: Scope, headers: Iterable[Header]) -> list[Header]:
        allowed = self._allowed.get(scope.get("path_template", ""))
        return [
            (name, allowed) if name == b"allow" and allowed is not None else (name, value)
            for name, value in headers
        ]

    def _observe(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route: str | None = scope.get("path_template")
        self._metrics.http(route, method).done(status, seconds)
        if status >= 400:
            _log.info(
                "http.refused" if status < 500 else "http.failed",
                method=method,
                path=_shown(scope["path"]),
                status=status,
                seconds=round(seconds, 4),
            )
        else:
            _log.debug("http.served", method=method, path=_shown(scope["path"]), status=status)


def _shown(path: str) -> str:
    """Return a path as it may be logged: a callback's ends in a token that only its provider should have."""
    return path[:200] if not path.startswith(CALLBACKS) else f"{CALLBACKS}..."


async def _answer_internal(send: Send, request_id: str) -> None:
    detail = "Something went wrong in the gateway. Its log has the details under this request's id."
    body = problem_body(Refusal("internal", detail), request_id)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
