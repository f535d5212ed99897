"""AI/ML API's calls, built and read. Source of every field: `spec.OPENAPI`, unless it says otherwise."""

from __future__ import annotations

import re

from providers.aimlapi.spec import CREDITS_PER_MICRO_USD, PATHS
from providers.contract.adapter import CallContext
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import build_body
from providers.contract.motion import MotionRequest
from providers.contract.reading import (
    is_list,
    list_at,
    message_of,
    number_at,
    read_object,
    read_object_if_any,
    ref_at,
    status_at,
    text_at,
    urls_in,
    value_at,
)
from providers.contract.report import Allowance, Cost, Failure, Observation, Submitted

CLIENT_REQUEST_ID = "X-Client-Request-Id"
#: docs.aimlapi.com, request tracing: any other value is dropped without a word.
CLIENT_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ISSUES_READ = 5


def build_submit(request: MotionRequest, context: CallContext) -> HttpRequest:
    """POST the path that the option `api_path` chooses.

    Raises:
        ValueError: an option cannot be conveyed, or the attempt id is one they would silently drop,
            which would leave a submission of unknown outcome without the one trace it can be found by.
    """
    if CLIENT_REQUEST_ID_FORM.fullmatch(context.attempt_id) is None:
        raise ValueError(f"{CLIENT_REQUEST_ID} cannot be {context.attempt_id!r}")
    return HttpRequest(
        method="POST",
        path=_path(context),
        headers=((CLIENT_REQUEST_ID, context.attempt_id),),
        json=build_body(context.model, request),
        paid=True,
    )


def parse_submit(response: HttpResponse) -> Submitted:
    """Read `{id, status}`: the schema is the poll's, and so is the word, but captured replies hold no more.

    Their page on request tracing calls the id `generation_id`.
    """
    document = read_object(response)
    return Submitted(ref=ref_at(document, "id", "generation_id"), status=text_at(document, "status"))


def build_poll(context: CallContext) -> HttpRequest:
    """GET the path of the submit; the id goes into the query, where it may hold any character."""
    return HttpRequest(method="GET", path=_path(context), query=(("generation_id", context.ref),))


def parse_poll(response: HttpResponse) -> Observation:
    """Read a generation: `video` is an object, a list (until 2025-11, and still in samples) or a string."""
    generation = read_object(response)
    return Observation(
        status=status_at(generation, "status"),
        outputs=urls_in(value_at(generation, "video"), "url"),
        failure=_failure(value_at(generation, "error")),
        cost=_cost(value_at(generation, "meta", "usage")),
    )


def parse_failure(response: HttpResponse) -> Failure:
    """Read `{message, path, requestId, statusCode, timestamp}`.

    `statusCode` repeats the HTTP status, as a string or a number, and is not read. Source: `spec.ERRORS`.
    """
    document = read_object_if_any(response)
    return _failure(document) or Failure()


def build_probe() -> HttpRequest:
    """GET /v2/billing: the balance in USD; billing-v2.json of the same documentation."""
    return HttpRequest(method="GET", path=("v2", "billing"))


def parse_probe(response: HttpResponse) -> Allowance:
    """Read `{current_balance, currency}`; billing-v2.json of the same documentation."""
    billing = read_object(response)
    balance = number_at(billing, "current_balance")
    if balance is None or text_at(billing, "currency") != "USD":
        return Allowance()
    return Allowance(balance=Cost(micro_usd=round(balance * 1_000_000)))


def _path(context: CallContext) -> tuple[str, ...]:
    return PATHS[context.options.get("api_path", "current")]


def _failure(error: object) -> Failure | None:
    """Read text, `{name, message}`, `{detail: [{loc, msg, type}]}`, or whatever else was put there."""
    if not error:
        return None
    code = text_at(error, "name") or text_at(error, "detail", 0, "type")
    said = value_at(error, "message") or value_at(error, "detail") or value_at(error, "error") or error
    if is_list(said):
        said = "; ".join(_issue(issue) for issue in said[:ISSUES_READ])
    return Failure(code=code, message=message_of(said))


def _issue(issue: object) -> str:
    where = ".".join(str(step) for step in list_at(issue, "loc"))
    message = message_of(value_at(issue, "msg") or issue)
    return f"{where}: {message}" if where else message


def _cost(usage: object) -> Cost | None:
    """Price what was used; `tokens_used` (2025) has no stated value and is left unread."""
    credits_used, usd = number_at(usage, "credits_used"), number_at(usage, "usd_spent")
    if usd is not None:
        return Cost(credits=credits_used, micro_usd=round(usd * 1_000_000))
    if credits_used is None:
        return None
    return Cost(credits=credits_used, micro_usd=round(credits_used / CREDITS_PER_MICRO_USD))
