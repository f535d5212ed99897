"""No broken reply may be taken for sense: readers return a sound report or raise `UnexpectedPayload`.

A truncated reply that reads as a success pays for nothing; one that reads as another job's ref loses a
paid job; an exception of another kind takes the worker's step down with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from providers.conformance.callbacks import broken_callbacks, callback_problems
from providers.conformance.damage import Damage, damages, stated, with_word_replaced
from providers.conformance.exchanges import Exchange
from providers.conformance.finding import Finding
from providers.conformance.lost import damaged_looks, sought_of
from providers.conformance.replayed import context_of
from providers.contract.adapter import Adapter
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpResponse
from providers.contract.normalize import normalize
from providers.contract.reading import is_ref
from providers.contract.report import Allowance, Failure, Observation, Submitted
from providers.contract.status import JobStatus

R = TypeVar("R")

#: One finding says enough about a kind of damage; a reader that fails at one place fails at many.
_MOST_FINDINGS = 5


def check_damaged(adapter: Adapter, exchanges: Sequence[Exchange]) -> tuple[Finding, ...]:
    """Return which broken replies the adapter's readers do not survive."""
    return tuple(finding for exchange in exchanges for finding in damage_exchange(adapter, exchange))


def damage_exchange(adapter: Adapter, exchange: Exchange) -> tuple[Finding, ...]:
    """Break one exchange's response in every way; return at most five different problems."""
    where = f"exchanges/{exchange.name}.json"
    found: dict[str, Finding] = {}
    for damage, check, problem in _judged(adapter, exchange):
        found.setdefault(problem, Finding(f"damaged.{check}", where, f"with {damage.what}: {problem}"))
    for check, problem in _unknown_word_problems(adapter, exchange):
        found.setdefault(problem, Finding(f"damaged.{check}", where, problem))
    return tuple(found.values())[:_MOST_FINDINGS]


def _judged(adapter: Adapter, exchange: Exchange) -> Iterator[tuple[Damage, str, str]]:
    if exchange.operation == "callback":
        for damage, said in broken_callbacks(exchange.http):
            for check, problem in callback_problems(adapter, said, damage):
                yield damage, check, problem
        return
    if exchange.operation == "reconcile":
        try:
            context = context_of(adapter, exchange)
            sought = sought_of(adapter, exchange, context)
        except Exception:  # noqa: BLE001  (a file that fits no call of the adapter is reported by `replayed`)
            return
        if adapter.reconcile is not None:
            yield from damaged_looks(adapter, context, sought, exchange.steps)
    for damage, reply in _broken(exchange.http):
        for check, problem in _problems(adapter, exchange, reply, damage):
            yield damage, check, problem


def _broken(reply: HttpResponse) -> Iterator[tuple[Damage, HttpResponse]]:
    bare: dict[str, str] = {}
    yield Damage("nothing broken, but without headers", reply.body), replace(reply, headers=bare)
    for damage in damages(reply.body):
        yield damage, replace(reply, body=damage.body)


def _problems(
    adapter: Adapter, exchange: Exchange, reply: HttpResponse, damage: Damage
) -> Iterator[tuple[str, str]]:
    if not reply.successful:
        yield from _failure_problems(adapter, reply)
    elif exchange.operation == "submit":
        yield from _submit_problems(adapter, reply, damage)
    elif exchange.operation == "poll":
        yield from _poll_problems(adapter, reply, damage)
    elif exchange.operation == "probe" and adapter.parse_probe is not None:
        yield from _read(adapter.parse_probe, Allowance, reply, damage, "parse_probe")


def _read(
    read: Callable[[HttpResponse], R], kind: type[R], reply: HttpResponse, damage: Damage, name: str
) -> Generator[tuple[str, str], None, R | None]:
    """Read a broken reply, yield what is wrong with that, and return the report where there may be one."""
    try:
        report = read(reply)
    except UnexpectedPayload:
        return None
    except Exception as error:  # noqa: BLE001  (that it may be any is what is checked)
        problem = f"{name} raised {type(error).__name__}; only UnexpectedPayload may leave a reader"
        yield "raises", problem
        return None
    if damage.unreadable:
        yield "unreadable", f"{name} read what cannot be read; begin with reading.read_object"
        return None
    if not _typed(report, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        yield "types", f"{name} returned something else than {article} {kind.__name__} of the declared types"
        return None
    return report


def _submit_problems(adapter: Adapter, reply: HttpResponse, damage: Damage) -> Iterator[tuple[str, str]]:
    submitted = yield from _read(adapter.parse_submit, Submitted, reply, damage, "parse_submit")
    if submitted is None:
        return
    if not is_ref(submitted.ref):
        yield "refs", "parse_submit returned a text that cannot be a ref; use reading.ref_at"
    elif submitted.ref not in stated(reply):
        yield "refs", f"parse_submit returned the ref {submitted.ref[:40]!r}, which the reply does not hold"


def _poll_problems(adapter: Adapter, reply: HttpResponse, damage: Damage) -> Iterator[tuple[str, str]]:
    seen = yield from _read(adapter.parse_poll, Observation, reply, damage, "parse_poll")
    if seen is None:
        return
    update = normalize(adapter.spec, seen)
    if update.status is JobStatus.SUCCEEDED and not (update.outputs and stated(reply) >= {*update.outputs}):
        yield "success", "a success passes without an output that the reply holds; never make a URL up"


def _failure_problems(adapter: Adapter, reply: HttpResponse) -> Iterator[tuple[str, str]]:
    try:
        failure = adapter.parse_failure(reply)
    except Exception as error:  # noqa: BLE001  (that it may be any is what is checked)
        name = type(error).__name__
        yield "raises", f"parse_failure raised {name}; it never raises, use reading.read_object_if_any"
        return
    if not _typed(failure, Failure):
        yield "types", "parse_failure returned something else than a Failure of the declared types"


def _unknown_word_problems(adapter: Adapter, exchange: Exchange) -> Iterator[tuple[str, str]]:
    if exchange.operation != "poll" or not exchange.http.successful:
        return
    word = _word(adapter, exchange.http)
    if word is None:
        return
    for other in (f"{word}_AGAIN", f"NOT_{word}", "SOMETHING_NEW"):
        body = with_word_replaced(exchange.http.body, word, other)
        read = _word(adapter, replace(exchange.http, body=body))
        if read is not None and adapter.spec.word(read) is not None and adapter.spec.word(other) is None:
            problem = f"the word {other}, which spec.statuses does not have, is read as {read}"
            yield "unknown-word", f"{problem}; report the provider's own word"


def _word(adapter: Adapter, reply: HttpResponse) -> str | None:
    try:
        return adapter.parse_poll(reply).status
    except Exception:  # noqa: BLE001  (a reader that raises gives no word; whether it may is judged above)
        return None


def _typed(report: object, kind: type) -> bool:
    try:
        msgspec.convert(msgspec.to_builtins(report), kind)
    except (msgspec.ValidationError, TypeError):
        return False
    return isinstance(report, kind)
