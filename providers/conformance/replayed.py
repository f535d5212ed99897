"""Every exchange file held against the adapter: the request it builds, and what it makes of the response."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from msgspec import UNSET, Struct
from msgspec.structs import fields

from providers.conformance.coverage import check_covered
from providers.conformance.exchanges import Asked, Exchange
from providers.conformance.finding import Finding
from providers.conformance.lost import look, look_problems, sought_of
from providers.contract.adapter import Adapter, CallContext
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest
from providers.contract.normalize import classify, normalize
from providers.contract.report import Allowance, Sighting


def check_replayed(adapter: Adapter, exchanges: Sequence[Exchange]) -> tuple[Finding, ...]:
    """Return what the adapter builds or reads otherwise than its exchange files say, and what none shows."""
    found = [finding for exchange in exchanges for finding in replay(adapter, exchange)]
    return (*found, *check_covered(adapter, exchanges))


def replay(adapter: Adapter, exchange: Exchange) -> Iterator[Finding]:
    """Yield what is wrong with one exchange."""
    where = f"exchanges/{exchange.name}.json"
    try:
        context = context_of(adapter, exchange)
        if exchange.operation == "reconcile":
            for check, problem in _look_problems(adapter, exchange, context):
                yield Finding(f"replayed.{check}", where, problem)
            return
        if exchange.request is not UNSET:
            for problem in _request_problems(_build(adapter, exchange, context), exchange.request):
                yield Finding("replayed.request", where, problem)
        for problem in _reply_problems(adapter, exchange):
            yield Finding("replayed.response", where, problem)
    except Exception as error:  # noqa: BLE001  (an adapter's function may fail in any way)
        yield Finding("replayed.failed", where, f"{type(error).__name__}: {error}")


def context_of(adapter: Adapter, exchange: Exchange) -> CallContext:
    """What a file's call is about.

    Raises:
        LookupError: the file names a model or an option that the tables do not have.
    """
    given, spec = exchange.given, adapter.spec
    model = spec.model(given.model)
    if model is None:
        raise LookupError(f"given.model {given.model} is not in spec.models")
    values = {option.name: option.values for option in spec.options}
    for name, value in given.options.items():
        if value not in values.get(name, ()):
            raise LookupError(f"given.options says {name}={value}, which spec.options does not offer")
    options = spec.default_options() | given.options
    return CallContext(model=model, attempt_id=given.attempt_id, ref=given.ref, options=options)


def _build(adapter: Adapter, exchange: Exchange, context: CallContext) -> HttpRequest:
    match exchange.operation:
        case "submit" if exchange.motion is not None:
            return adapter.build_submit(exchange.motion, context)
        case "poll":
            return adapter.build_poll(context)
        case "cancel" if adapter.build_cancel is not None:
            return adapter.build_cancel(context)
        case "probe" if adapter.build_probe is not None:
            return adapter.build_probe()
        case _:
            raise LookupError(f"the adapter has no {exchange.operation}")


def _look_problems(adapter: Adapter, exchange: Exchange, context: CallContext) -> Iterator[tuple[str, str]]:
    """Hold a whole look against its file: every request in its order, and what came of it."""
    first = [] if exchange.request is UNSET else [exchange.request]
    wanted = [*first, *(step.request for step in exchange.then)]
    done = look(adapter, context, sought_of(adapter, exchange, context), exchange.steps)
    for built, asked in zip(done.asked, wanted, strict=False):
        for problem in _request_problems(built, asked):
            yield "request", problem
    if exchange.expect.error is not UNSET:
        for problem in _reply_problems(adapter, exchange):
            yield "response", problem
        return
    if len(done.asked) != len(wanted):
        yield "request", f"the adapter asks {len(done.asked)} times, the file says {len(wanted)}"
    for check, problem in look_problems(done, exchange.steps):
        yield check, problem
    for problem in _seen_problems(done.sightings, exchange):
        yield "response", problem


def _seen_problems(seen: tuple[Sighting, ...] | None, exchange: Exchange) -> Iterator[str]:
    expect = exchange.expect
    if seen is None or expect.unreadable:
        if (seen is None) is not expect.unreadable:
            yield f"the adapter returns {seen!r}, the file says unreadable={expect.unreadable}"
    elif expect.sightings is not UNSET:
        if [sighting.ref for sighting in seen] != [sighting.ref for sighting in expect.sightings]:
            yield f"sightings: the adapter gives {seen!r}, the file says {expect.sightings!r}"
            return
        for place, (sighting, wanted) in enumerate(zip(seen, expect.sightings, strict=True)):
            yield from _differences(sighting, wanted, f"sightings[{place}]")


def _request_problems(built: HttpRequest, asked: Asked) -> Iterator[str]:
    headers = {name.lower(): value for name, value in built.headers}
    compared = {
        "method": (built.method, asked.method),
        "target": (built.target, asked.target),
        "headers": (headers, asked.headers),
        "body": (built.json, asked.body),
    }
    for name, (got, wanted) in compared.items():
        if got != wanted:
            yield f"request.{name}: the adapter builds {got!r}, the file says {wanted!r}"


def _reply_problems(adapter: Adapter, exchange: Exchange) -> Iterator[str]:
    expect = exchange.expect
    if expect.error is not UNSET:
        failure = adapter.parse_failure(exchange.http)
        error = classify(adapter.spec, failure, http_status=exchange.http.status)
        yield from _differences(error, expect.error, "error")
    elif exchange.operation in {"submit", "poll"} or expect.allowance is not UNSET:
        yield from _read_problems(adapter, exchange)
    elif exchange.operation == "callback":
        yield from _callback_problems(adapter, exchange)


def _callback_problems(adapter: Adapter, exchange: Exchange) -> Iterator[str]:
    if adapter.parse_callback is None:
        raise LookupError("the adapter has no callback")
    try:
        named = adapter.parse_callback(exchange.http.headers, exchange.http.body)
    except UnexpectedPayload as error:
        if not exchange.expect.unreadable:
            yield f"the adapter cannot read the callback: {error}"
        return
    if exchange.expect.unreadable:
        yield f"the adapter reads {named!r} from a callback that says nothing"
    elif named != exchange.expect.named:
        yield f"named: the adapter gives {named!r}, the file says {exchange.expect.named!r}"


def _read_problems(adapter: Adapter, exchange: Exchange) -> Iterator[str]:
    expect = exchange.expect
    try:
        if exchange.operation == "submit":
            got: Struct = adapter.parse_submit(exchange.http)
        elif exchange.operation == "probe":
            got = _parse_probe(adapter, exchange)
        else:
            got = normalize(adapter.spec, adapter.parse_poll(exchange.http))
    except UnexpectedPayload as error:
        if not expect.unreadable:
            yield f"the adapter cannot read the response: {error}"
        return
    if expect.unreadable:
        yield f"the adapter reads {got!r} from a response that says nothing"
    elif expect.submitted is not UNSET:
        yield from _differences(got, expect.submitted, "submitted")
    elif expect.allowance is not UNSET:
        yield from _differences(got, expect.allowance, "allowance")
    elif expect.update is not UNSET:
        yield from _differences(got, expect.update, "update")


def _parse_probe(adapter: Adapter, exchange: Exchange) -> Allowance:
    if adapter.parse_probe is None:
        raise LookupError("the adapter has no parse_probe")
    return adapter.parse_probe(exchange.http)


def _differences(got: object, wanted: Struct, where: str) -> Iterator[str]:
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        if value is UNSET:
            continue
        found: object = getattr(got, field.name)
        place = f"{where}.{field.name}"
        if isinstance(value, Struct) and found is not None:
            yield from _differences(found, value, place)
        elif value != (list(cast("tuple[object, ...]", found)) if isinstance(found, tuple) else found):
            yield f"{place}: the adapter gives {found!r}, the file says {value!r}"
