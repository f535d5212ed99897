"""/v1/usage: what an owner's jobs cost."""

from __future__ import annotations

import re
from datetime import date

from litestar import get
from litestar.handlers import HTTPRouteHandler

from gateway.api import paging
from gateway.api.auth import Doorkeeper
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.errors import FieldProblem, Refusal
from gateway.service.keys import Principal, Scope
from gateway.service.usage import Usage

MOST_DAYS = 366
OWNER_MAX = 64
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def usage_routes(usage: Usage, door: Doorkeeper) -> HTTPRouteHandler:
    """Return the route of /v1/usage."""
    parameters = {"from": parse_day, "to": parse_day, "owner": _parse_owner}

    @get("/v1/usage")
    async def show(request: AnyRequest) -> Reply:
        principal = await door.admit(request, Scope.JOBS)
        query = paging.parse_query(request.scope["query_string"], parameters)
        first, last = query.get("from"), query.get("to")
        _check_span(first, last or usage.today())
        owner = _whose(principal, query.get("owner"))
        return json_reply(await usage.show(owner=owner, first=first, last=last))

    return show


def parse_day(text: str) -> str:
    """Read a day.

    Raises:
        ValueError: it is none.
    """
    if _DAY.fullmatch(text) is None:
        raise ValueError("expected a day (UTC) such as 2026-01-31")
    try:
        date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("there is no such day") from error
    return text


def _parse_owner(text: str) -> str:
    if not 1 <= len(text) <= OWNER_MAX:
        raise ValueError(f"expected an owner's name, 1 to {OWNER_MAX} characters")
    return text


def _check_span(first: str | None, last: str) -> None:
    if first is None:
        return
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days
    if 0 <= days < MOST_DAYS:
        return
    message = "lies after `to`" if days < 0 else f"lies more than {MOST_DAYS} days before `to`"
    problem = FieldProblem("/query/from", message)
    raise Refusal("validation-failed", "A query parameter is not valid.", errors=(problem,))


def _whose(principal: Principal, owner: str | None) -> str | None:
    """Return whose usage is shown; None for everybody's, which only an operator sees."""
    if principal.sees is None or owner in {None, principal.owner}:
        return owner if principal.sees is None else principal.owner
    raise Refusal("forbidden", f"This key lacks the scope {Scope.OPERATOR}: it sees its own owner's usage.")
