"""Looking for a lost submission in AI/ML API's request log, by the `X-Client-Request-Id` it bore.

Source of every field: `spec.LOGS`. A row seems to be written only when the request ends (not documented), so
an empty look is worth another one later; the log shows no inputs, so only the client's id can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from providers.contract.adapter import CallContext, Reconcile, Sought
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.reading import (
    instant_at,
    is_list,
    is_ref,
    read_object,
    text_at,
    value_at,
)
from providers.contract.report import Sighting

#: The most they give. A look reads five pages at most, and so the last 500 requests for the model.
ROWS_PER_PAGE = 100
MOST_PAGES = 5
#: By how much the two clocks may differ; a wide margin costs no more than some rows read in vain.
SKEW_MS = 10 * 60 * 1000


def reconcile(context: CallContext, sought: Sought) -> Reconcile:
    """GET /v2/logs, newest first, until our row was seen, or one older than the submission, or the last one.

    `client_id` is a proof here: it is the attempt's id, and only the key's owner sends such.
    """
    seen: dict[str, Sighting] = {}
    for page in range(MOST_PAGES):
        response = yield _build_page(context, page)
        rows = _rows(response)
        for sighting in _sightings(rows, context, sought):
            # A row moves to the next page when newer ones come, and is then seen twice.
            seen.setdefault(sighting.ref, sighting)
        found = any(sighting.client_id == context.attempt_id for sighting in seen.values())
        times = (instant_at(row, "created") for row in rows)
        passed = any(at is not None and at < sought.sent_ms - SKEW_MS for at in times)
        if found or passed or len(rows) < ROWS_PER_PAGE:
            break
    return tuple(seen.values())


def _build_page(context: CallContext, page: int) -> HttpRequest:
    # `period` and not `start` with `end`: whether `created` is when a request came, or when its row was
    # written, is worth no bet. A key sees its own requests only, which is what is wanted.
    query = (
        ("period", "24h"),
        ("model", context.model.upstream),
        ("limit", str(ROWS_PER_PAGE)),
        ("offset", str(page * ROWS_PER_PAGE)),
    )
    return HttpRequest(method="GET", path=("v2", "logs"), query=query)


def _rows(response: HttpResponse) -> list[object]:
    if not response.successful:
        raise UnexpectedPayload(f"the log is not there: status {response.status}")
    rows = value_at(read_object(response), "data")
    if not is_list(rows):
        raise UnexpectedPayload("no list of rows at data")
    return rows


def _sightings(rows: list[object], context: CallContext, sought: Sought) -> Iterator[Sighting]:
    """Yield the rows that bear our id, and those of the time in question that bear none."""
    for row in rows:
        ref, client_id = text_at(row, "inference_id"), text_at(row, "client_request_id")
        created_ms = instant_at(row, "created")
        ours = client_id == context.attempt_id
        nobodys = client_id is None and _in_question(created_ms, sought)
        if ref is not None and is_ref(ref) and (ours or nobodys):
            yield Sighting(ref=ref, client_id=client_id, created_ms=created_ms)


def _in_question(created_ms: int | None, sought: Sought) -> bool:
    if created_ms is None:
        return True
    return sought.sent_ms - SKEW_MS <= created_ms <= sought.doubted_ms + SKEW_MS
