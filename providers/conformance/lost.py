"""Looks for a lost submission: driven over answers of any kind, and judged by what they ask and say.

A look may see nothing. It may not ask for what costs money, go on asking for ever, make a run up, or fail in
any other way than `UnexpectedPayload`: its driver would take the worker's step down with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from providers.conformance.damage import Damage, damages, stated
from providers.conformance.exchanges import Exchange
from providers.contract.adapter import MOST_LOOKS, Adapter, CallContext, Sought
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.reading import is_ref
from providers.contract.report import Sighting

GONE = HttpResponse(status=404, headers={"content-type": "application/json"}, body=b'{"error":"gone"}')


class Look(Struct, frozen=True, kw_only=True):
    """How a look went."""

    asked: tuple[HttpRequest, ...]
    sightings: tuple[Sighting, ...] | None = None
    """None when it did not come to its end."""
    error: Exception | None = None


def look(adapter: Adapter, context: CallContext, sought: Sought, answers: Sequence[HttpResponse]) -> Look:
    """Drive a look; the last of the answers is given again to every further request, up to the bound.

    Raises:
        LookupError: the adapter has no way to look.
    """
    asked: list[HttpRequest] = []
    if adapter.reconcile is None:
        raise LookupError("the adapter has no reconcile")
    try:
        running = adapter.reconcile(context, sought)
        try:
            asked.append(next(running))
            while len(asked) <= MOST_LOOKS:
                asked.append(running.send(answers[min(len(asked), len(answers)) - 1]))
        except StopIteration as ended:
            return Look(asked=tuple(asked), sightings=ended.value)
        running.close()
    except Exception as error:  # noqa: BLE001  (an adapter's function may fail in any way; the caller judges it)
        return Look(asked=tuple(asked), error=error)
    return Look(asked=tuple(asked))


def look_problems(done: Look, answers: Sequence[HttpResponse]) -> Iterator[tuple[str, str]]:
    """Say what is wrong with a look, whatever it was answered; each with the name of the check."""
    if done.error is not None and not isinstance(done.error, UnexpectedPayload):
        name = type(done.error).__name__
        yield "raises", f"reconcile raised {name}; only UnexpectedPayload may leave it"
    if any(request.paid for request in done.asked):
        yield "paid", "reconcile asks for what may cost money"
    if len(done.asked) > MOST_LOOKS:
        yield "bounds", f"reconcile asks more than {MOST_LOOKS} times; stop, and return what is certain"
    if done.sightings is not None:
        yield from _sighting_problems(done.sightings, done.asked, answers)


def _sighting_problems(
    sightings: object, asked: Sequence[HttpRequest], answers: Sequence[HttpResponse]
) -> Iterator[tuple[str, str]]:
    try:
        seen = msgspec.convert(msgspec.to_builtins(sightings), tuple[Sighting, ...])
    except (msgspec.ValidationError, TypeError):
        yield "types", "reconcile returned something else than Sightings of the declared types"
        return
    said = {text for answer in answers for text in stated(answer)}
    for sighting in seen:
        asked_for = any(sighting.ref in request.path for request in asked)
        if not is_ref(sighting.ref):
            yield "refs", "reconcile returned a text that cannot be a ref; use reading.is_ref"
        elif sighting.ref not in said and not asked_for:
            yield "refs", f"reconcile returned the ref {sighting.ref[:40]!r}, which nobody named"
        if sighting.client_id is not None and sighting.client_id not in said:
            yield "client-ids", "reconcile returned a client id that the answers do not hold"
        if sighting.inputs is not None and not sighting.inputs:
            yield "inputs", "reconcile returned empty inputs, which equal everything; give None"
    if len({sighting.ref for sighting in seen}) != len(seen):
        yield "refs", "reconcile returned one run twice"


def sought_of(adapter: Adapter, exchange: Exchange, context: CallContext) -> Sought:
    """What a reconcile's file is about."""
    if exchange.motion is None:
        raise LookupError("given.request is missing")
    given = exchange.given
    return Sought(
        body=adapter.build_submit(exchange.motion, context).json or {},
        sent_ms=given.sent_ms,
        doubted_ms=given.doubted_ms,
        offered=given.offered,
        known=given.known,
    )


def damaged_looks(
    adapter: Adapter, context: CallContext, sought: Sought, steps: Sequence[HttpResponse]
) -> Iterator[tuple[Damage, str, str]]:
    """Break every response of a file in turn, and answer with nothing but one; yield what is wrong."""
    for place, step in enumerate(steps):
        over_and_over = Damage("the same answer to everything", step.body)
        yield from _judged(adapter, context, sought, (step,), over_and_over)
        for damage in damages(step.body):
            broken = (*steps[:place], replace(step, body=damage.body), *steps[place + 1 :])
            yield from _judged(adapter, context, sought, broken, damage, place=place)
        gone = (*steps[:place], GONE)
        yield from _judged(adapter, context, sought, gone, Damage("404 from there on", GONE.body))


def _judged(
    adapter: Adapter,
    context: CallContext,
    sought: Sought,
    answers: Sequence[HttpResponse],
    damage: Damage,
    *,
    place: int | None = None,
) -> Iterator[tuple[Damage, str, str]]:
    done = look(adapter, context, sought, answers)
    for check, problem in look_problems(done, answers):
        yield damage, check, problem
    if place is None or not damage.unreadable or done.sightings is None:
        return
    if answers[place].successful and len(done.asked) > place:
        yield damage, "unreadable", "reconcile read what cannot be read; begin with reading.read_object"
