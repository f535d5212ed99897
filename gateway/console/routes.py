"""Puts the pages together: log-in, files, and what is said when something cannot be done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from litestar import Response, Router, get, post
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from gateway.api.asgi import CLIENT_GONE
from gateway.api.body import ClientGone
from gateway.api.front import request_id_of
from gateway.api.problems import problem_type
from gateway.api.replies import AnyRequest, Reply
from gateway.console.desk import ConsoleDesk
from gateway.console.endpoints import endpoint_pages
from gateway.console.entrance import PATH, NotLoggedIn
from gateway.console.forms import read_query
from gateway.console.held import held_pages
from gateway.console.jobs import job_pages
from gateway.console.pages import Pages, Rendered, redirect
from gateway.console.providers import provider_pages
from gateway.errors import Refusal, StorageUnavailable, Unreadable
from gateway.telemetry import get_logger

_log = get_logger("gateway.console")

_PAGE: Final = re.compile(PATH + r"/(?:held|providers|endpoints|(?:jobs|endpoints)/[a-z]{2,3}_[0-9a-f]{32})")
LOG_IN: Final = f"{PATH}/login"
PATHS: Final = frozenset(
    PATH + path
    for path in (
        "",
        "/login",
        "/logout",
        "/held",
        "/jobs/{job_id}",
        "/jobs/{job_id}/resolve",
        "/deliveries/{delivery_id}/redeliver",
        "/providers",
        "/endpoints",
        "/endpoints/{endpoint_id}",
        "/endpoints/{endpoint_id}/enable",
        "/static/{name}",
        "/{rest}",
    )
)
"""Every template, for the metrics; a test holds it against what is served."""


def console_routes(desk: ConsoleDesk) -> Router:
    """Return the routes of /console."""
    handlers = [
        *_doors(desk),
        *job_pages(desk),
        *held_pages(desk),
        *provider_pages(desk),
        *endpoint_pages(desk),
        *_rest(desk.pages),
    ]
    troubles = _Troubles(desk.pages)
    return Router(
        PATH,
        route_handlers=handlers,
        exception_handlers={
            NotLoggedIn: troubles.not_logged_in,
            Refusal: troubles.refused,
            StorageUnavailable: troubles.storage,
            Unreadable: troubles.unreadable,
            ClientGone: troubles.gone,
            HTTPException: troubles.framework,
            Exception: troubles.failed,
        },
    )


def _doors(desk: ConsoleDesk) -> list[BaseRouteHandler]:
    entrance, pages = desk.entrance, desk.pages

    @get("/login")
    async def ask(request: AnyRequest) -> Reply:
        if not entrance.asks:
            return redirect(PATH).reply()
        return pages.render(
            "login.html", why="", to=read_query(request, {"to": inside}).get("to", PATH)
        ).reply()

    @post("/login", status_code=200)
    async def log_in(request: AnyRequest) -> Reply:
        try:
            cookie, to = await entrance.log_in(request)
        except Refusal as refusal:
            status = problem_type(refusal.slug).status
            _log.warning("console.refused", why=refusal.slug)
            rendered = pages.render("login.html", status=status, why=refusal.detail, to=PATH)
            return with_headers(rendered, refusal.headers).reply()
        _log.info("console.entered")
        return redirect(inside(to), cookie=cookie).reply()

    @post("/logout", status_code=200)
    async def log_out(request: AnyRequest) -> Reply:
        visitor, _ = await entrance.admit_form(request)
        return redirect(LOG_IN, cookie=entrance.forget(request, visitor.session)).reply()

    return [ask, log_in, log_out]


def _rest(pages: Pages) -> list[BaseRouteHandler]:
    @get("/static/{name:str}")
    async def static(request: AnyRequest) -> Reply:
        found = pages.static(request.path_params["name"])
        if found is None:
            raise _nothing_here()
        return found.reply()

    @get("/{rest:path}")
    async def elsewhere() -> Reply:
        raise _nothing_here()

    return [static, elsewhere]


class _Troubles:
    """What a page says where the API would answer with a problem document; the same words and status."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def not_logged_in(self, request: AnyRequest, _error: NotLoggedIn) -> Response[bytes]:
        back = inside(request.scope["path"]) if request.method == "GET" else PATH
        return _response(redirect(LOG_IN if back == PATH else f"{LOG_IN}?to={back}"))

    def refused(self, request: AnyRequest, error: Refusal) -> Response[bytes]:
        row = problem_type(error.slug)
        rendered = self._pages.render(
            "trouble.html",
            status=row.status,
            code=row.status,
            title=row.title,
            detail=error.detail,
            errors=error.errors,
            request_id=request_id_of(cast("Mapping[str, object]", request.scope)),
        )
        return _response(with_headers(rendered, error.headers))

    def storage(self, request: AnyRequest, error: StorageUnavailable) -> Response[bytes]:
        _log.error("http.storage", error=str(error))
        detail = "The database cannot be used just now. Reload the page to see how things are."
        return self.refused(request, Refusal("storage-unavailable", detail, headers={"Retry-After": "2"}))

    def unreadable(self, request: AnyRequest, error: Unreadable) -> Response[bytes]:
        _log.error("http.unreadable", error=str(error))
        detail = "The job holds something that this version does not know. Nothing of it is lost."
        return self.refused(request, Refusal("job-unreadable", detail, headers={"Retry-After": "30"}))

    def gone(self, _request: AnyRequest, _error: ClientGone) -> Response[bytes]:
        return Response(content=b"", status_code=CLIENT_GONE)

    def framework(self, request: AnyRequest, error: HTTPException) -> Response[bytes]:
        return (
            self.refused(request, _nothing_here()) if error.status_code < 500 else self.failed(request, error)
        )

    def failed(self, request: AnyRequest, error: Exception) -> Response[bytes]:
        _log.error("http.exception", error=str(error), exc_info=error)
        detail = "Something went wrong in the gateway. Its log has the details under this request's id."
        return self.refused(request, Refusal("internal", detail))


def inside(path: str) -> str:
    """Return a page to go to after the log-in: the one that was asked for, if it is one of ours."""
    return path if _PAGE.fullmatch(path) else PATH


def with_headers(rendered: Rendered, more: Mapping[str, str]) -> Rendered:
    """Return an answer with further headers."""
    return Rendered(
        body=rendered.body,
        status=rendered.status,
        headers={**rendered.headers, **{name.lower(): value for name, value in more.items()}},
    )


def _response(rendered: Rendered) -> Response[bytes]:
    """Return the framework's own kind of answer, which exception handlers must."""
    headers = {name: value for name, value in rendered.headers.items() if name != "content-type"}
    return Response(
        content=rendered.body,
        status_code=rendered.status,
        media_type=rendered.headers["content-type"].partition(";")[0],  # to which it adds the charset
        headers=headers,
    )


def _nothing_here() -> Refusal:
    return Refusal("not-found", "There is nothing here.")
