"""Looking for a lost submission among Eachlabs' executions, by what it was asked to do.

Nothing shows the `X-Request-Id` it bore, and the list shows no inputs: every execution of the time in
question is asked for by itself. Sources: `spec.OPENAPI` for a prediction, `spec.EXECUTIONS` for the list.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from providers.contract.adapter import CallContext, Reconcile, Sought
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.reading import (
    instant_at,
    is_list,
    is_object,
    read_object,
    ref_at,
    text_at,
    value_at,
)
from providers.contract.report import Sighting
from providers.eachlabs.wire import build_poll

#: The most they give, of pages that hold nothing else in question as a rule.
ROWS_PER_PAGE = 100
MOST_PAGES = 5
#: With the pages and the refs that callbacks named, no more than `adapter.MOST_LOOKS` requests.
MOST_CANDIDATES = 20
MOST_OFFERED = 10
#: By how much the two clocks may differ. Wider would bring in runs that only cost questions.
SKEW_MS = 2 * 60 * 1000

T = TypeVar("T")
Asking = Generator[HttpRequest, HttpResponse, T]


class _Candidate(Struct, frozen=True):
    """A row that may be the one."""

    ref: str
    model: str | None
    created_ms: int | None


def reconcile(context: CallContext, sought: Sought) -> Reconcile:
    """Look at the refs that callbacks named, then at every execution created in the time in question.

    `Sighting.inputs` is `{"input": {...}}` as the prediction shows it, which the create body must hold just
    so, and `model` where it is shown; neither the deprecated version nor the callback's fields are the work.
    What they show as null was not asked for. A field that they fill in by themselves makes the two differ,
    and the submission is then not found, which is the safe side.

    The list holds the executions of every key of the organization, so that one which fits may be another
    system's. Where it cannot be seen whole, nothing of it is returned.
    """
    seen: dict[str, Sighting] = {}
    for ref in tuple(dict.fromkeys(sought.offered))[:MOST_OFFERED]:
        sighting = yield from _look(context, _Candidate(ref, None, None))
        if sighting is not None:
            seen[ref] = sighting
            if sighting.inputs is not None and sighting.inputs["input"] == sought.body.get("input"):
                return tuple(seen.values())  # an unguessable URL of ours named it: no other can fit better
    for candidate in (yield from _candidates(context, sought)):
        sighting = None if candidate.ref in seen else (yield from _look(context, candidate))
        if sighting is not None:
            seen[candidate.ref] = sighting
    return tuple(seen.values())


def _look(context: CallContext, candidate: _Candidate) -> Asking[Sighting | None]:
    """GET /v1/prediction/{id}: None for one that is gone, or that answers in another's name."""
    response = yield build_poll(replace(context, ref=candidate.ref))
    if response.status == 404:
        return None
    prediction = read_object(response)
    if text_at(prediction, "id") not in {None, candidate.ref}:
        return None
    created_ms = instant_at(prediction, "created_at")  # not documented here
    return Sighting(
        ref=candidate.ref,
        inputs=_inputs(prediction, text_at(prediction, "model") or candidate.model),
        created_ms=candidate.created_ms if created_ms is None else created_ms,
    )


def _inputs(prediction: dict[str, object], model: str | None) -> dict[str, object] | None:
    shown = value_at(prediction, "input")
    given = {name: value for name, value in shown.items() if value is not None} if is_object(shown) else {}
    if not given:
        return None
    return {"input": given} if model is None else {"model": model, "input": given}


def _candidates(context: CallContext, sought: Sought) -> Asking[tuple[_Candidate, ...]]:
    """GET /v1/executions for the time in question; empty also when there are more than may be looked at."""
    since_ms, until_ms = sought.sent_ms - SKEW_MS, sought.doubted_ms + SKEW_MS
    found: dict[str, _Candidate] = {}
    for page in range(MOST_PAGES):
        query = (
            ("model", context.model.upstream),
            ("from", _rfc3339(since_ms)),
            ("to", _rfc3339(until_ms + 999)),
            ("limit", str(ROWS_PER_PAGE)),
            ("offset", str(page * ROWS_PER_PAGE)),
        )
        response = yield HttpRequest(method="GET", path=("v1", "executions"), query=query)
        rows = _rows(response)
        for candidate in _readable(rows, context.model.upstream):
            at = candidate.created_ms
            if candidate.ref not in sought.known and (at is None or since_ms <= at <= until_ms):
                found.setdefault(candidate.ref, candidate)
        if len(found) > MOST_CANDIDATES:
            return ()
        if len(rows) < ROWS_PER_PAGE:  # the end by their word; `total_count` may be too low
            return tuple(found.values())
    return ()


def _rows(response: HttpResponse) -> list[object]:
    if not response.successful:
        raise UnexpectedPayload(f"the list of executions is not there: status {response.status}")
    rows = value_at(read_object(response), "executions")
    if not is_list(rows):
        raise UnexpectedPayload("no list of rows at executions")
    return rows


def _readable(rows: list[object], upstream: str) -> Iterator[_Candidate]:
    """Yield the predictions of the model; a workflow's are none of ours.

    Raises:
        UnexpectedPayload: a row names none, so that it may be the one and cannot be looked at.
    """
    for row in rows:
        ref, model = ref_at(row, "id"), text_at(row, "model")
        flow = text_at(row, "workflow_id") or text_at(row, "workflow_execution_id")
        if model in {None, upstream} and flow is None:
            yield _Candidate(ref, model, instant_at(row, "created_at"))


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
