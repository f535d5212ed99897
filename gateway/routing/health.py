"""How an account fares, and what may be asked of it: breakers, pauses, the cap on runs in flight, the pace.

Everything here is a function from what is known, what happened, and the instant, to what is known then. The
store keeps one `Health` for each account, so that every process of a fleet goes by the same.

* A **breaker** for each kind of call: a broken submit never keeps paid results from being fetched.
* A **429** is no failure. It pauses submits, longer each time, since Runway's may last hours, and cuts the
  cap on runs in flight, since Eachlabs' speaks of those (design: additive increase, multiplicative decrease).
* **Refused credentials** stop every call but one probe a pause; **empty balances** stop submits alone.
"""

from __future__ import annotations

import math
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from gateway.routing import breaker
from gateway.routing.breaker import Breaker

CUT = 0.7
FIRST_PAUSE_MS = 2_000
LONGEST_PAUSE_MS = 900_000
UNUSED_MS = 3_600_000
SHORTEST_ASKED_MS = 1_000
LONGEST_ASKED_MS = 3_600_000
UNAUTHORIZED_MS = 60_000
UNFUNDED_MS = 120_000


class Operation(StrEnum):
    """What is asked of a provider."""

    SUBMIT = "submit"
    POLL = "poll"
    CANCEL = "cancel"


class Outcome(StrEnum):
    """What a call says about the account."""

    FINE = "fine"
    """It answered as it should, be it with a refusal of this one job."""
    FAILED = "failed"
    """No answer, a 5xx, or one that cannot be read."""
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    UNFUNDED = "unfunded"


class Pause(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing of a kind for a while; longer each time in a row."""

    until_ms: int = 0
    times: int = 0
    """Since the last call that went well; 0: there is none."""
    probing: bool = False
    """Whether it only waits for the answer to the one call that was let through."""

    def stands(self, now_ms: int) -> bool:
        """Whether nothing goes out, and nothing is on its way that could tell more."""
        return self.until_ms > now_ms and not self.probing


class Limits(Struct, frozen=True, kw_only=True):
    """What the settings allow an account."""

    max_in_flight: int | None = None
    """Runs at the provider at once, over the whole fleet; None: no limit of ours."""
    submits_per_second: float | None = None
    scale: float = 1.0
    """Factor on every pause of our own making; tests and demos use a small one."""


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of an account. Instants are epoch milliseconds."""

    submit: Breaker = breaker.CLOSED
    poll: Breaker = breaker.CLOSED
    cancel: Breaker = breaker.CLOSED
    throttled: Pause = Pause()
    unauthorized: Pause = Pause()
    unfunded: Pause = Pause()
    window: float | None = None
    """The cap on runs in flight that 429s have led to; None: the configured one."""
    reached: int = 0
    """Runs in flight when the last 429 came, where no cap is configured."""
    next_submit_ms: float = 0.0
    """When the next submit keeps the pace."""
    key: str = ""
    """A fingerprint of the key that all this was found out with; empty while it is at work."""


WELL = Health()

#: Which pauses a kind of call heeds, and ends when it goes well.
_PAUSES = {
    Operation.SUBMIT: ("unauthorized", "unfunded", "throttled"),
    Operation.POLL: ("unauthorized",),
    Operation.CANCEL: ("unauthorized",),
}

_REASONS = {
    "unauthorized": ("unauthorized", "the provider refuses its key"),
    "unfunded": ("unfunded", "its balance is used up"),
    "throttled": ("paused", "the provider asked for a pause (429)"),
}


class Shut(Struct, frozen=True, kw_only=True):
    """Why an account takes nothing just now."""

    code: str
    """breaker_open, paused, unauthorized, unfunded, no_slot or paced."""
    reason: str
    until_ms: int | None = None
    """When to look again; None: when something ends, such as the one call that is let through to try it."""


def noted(
    health: Health,
    operation: Operation,
    outcome: Outcome,
    *,
    now_ms: int,
    in_flight: int = 0,
    retry_after_s: float | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> Health:
    """Return what is known after a call.

    Args:
        health: what was known.
        operation: what was asked.
        outcome: what the answer says of the account.
        now_ms: the instant.
        in_flight: runs at the account now, for a 429.
        retry_after_s: what a 429 asked for, seconds; None when it did not.
        limits: of the account.
    """
    match outcome:
        case Outcome.FINE:
            return _fine(health, operation, now_ms, limits)
        case Outcome.FAILED:
            calls = breaker.failed(breaker_of(health, operation), now_ms=now_ms, scale=limits.scale)
            return with_breaker(health, operation, calls)
        case Outcome.UNAUTHORIZED:
            pause = _longer(health.unauthorized, now_ms, UNAUTHORIZED_MS, limits.scale)
            return replace(_answered(health, operation), unauthorized=pause)
        case Outcome.UNFUNDED:
            pause = _longer(health.unfunded, now_ms, UNFUNDED_MS, limits.scale)
            return replace(_answered(health, operation), unfunded=pause)
        case Outcome.THROTTLED:
            if operation is not Operation.SUBMIT:
                return health  # that one call waits for itself
            return _throttled(health, now_ms, in_flight, retry_after_s, limits)


def shut(health: Health, operation: Operation, *, now_ms: int) -> Shut | None:
    """Why a kind of call is not to be made just now; None: it may be."""
    until_ms = breaker.shut_until(breaker_of(health, operation), now_ms=now_ms)
    if until_ms is not None:
        probed = breaker_of(health, operation).open_until_ms <= now_ms
        reason = f"its last {operation}s failed"
        return Shut(code="breaker_open", reason=reason, until_ms=None if probed else until_ms)
    for name in _PAUSES[operation]:
        pause = _pause(health, name)
        if pause.until_ms > now_ms:
            code, reason = _REASONS[name]
            return Shut(code=code, reason=reason, until_ms=None if pause.probing else pause.until_ms)
    return None


def room(health: Health, limits: Limits, in_flight: int, *, now_ms: int) -> int | Shut | None:
    """How many submits may be begun now: a number, None for no limit, or why none may."""
    closed = shut(health, Operation.SUBMIT, now_ms=now_ms)
    if closed is not None:
        return closed
    free = None if (cap := cap_of(health, limits)) is None else cap - in_flight
    if free is not None and free <= 0:
        return Shut(code="no_slot", reason=f"all its {cap} slots are in use")
    if limits.submits_per_second is not None:
        if health.next_submit_ms > now_ms:
            until_ms = math.ceil(health.next_submit_ms)
            return Shut(code="paced", reason="the pace of submits leaves a gap", until_ms=until_ms)
        free = 1
    return 1 if on_trial(health, Operation.SUBMIT) else free


def on_trial(health: Health, operation: Operation) -> bool:
    """Whether one call at a time is let through, to see whether it goes well again."""
    broken = breaker_of(health, operation).openings > 0
    return broken or any(_pause(health, name).times for name in _PAUSES[operation])


def unwell(health: Health, operation: Operation, *, now_ms: int) -> bool:
    """Whether a kind of call has not gone well since its breaker opened, or its key or balance was refused.

    Also while a call is let through to try it, and while nobody calls: for an hour, after which failures say
    nothing any more of a kind of call that nobody needs. A pause that a 429 asked for is over when it is
    over: it says nothing of the next call.
    """
    kept = breaker_of(health, operation)
    broken = kept.openings > 0 and now_ms < kept.open_until_ms + UNUSED_MS
    lasting = any(_pause(health, name).times for name in _PAUSES[operation] if name != "throttled")
    return broken or lasting or shut(health, operation, now_ms=now_ms) is not None


def begun(health: Health, limits: Limits, *, now_ms: int) -> Health:
    """Note that a submit is about to be made: after a pause it is the one probe, whatever waits."""
    calls = breaker.probing(health.submit, now_ms=now_ms)
    changed = health if calls is health.submit else replace(health, submit=calls)
    for name in _PAUSES[Operation.SUBMIT]:
        pause = _pause(changed, name)
        if pause.times:
            probe = replace(pause, until_ms=now_ms + breaker.PROBE_MS, probing=True)
            changed = replace(changed, **{name: probe})
    if limits.submits_per_second is None:
        return changed
    paced_ms = max(changed.next_submit_ms, float(now_ms)) + 1000 / limits.submits_per_second
    return replace(changed, next_submit_ms=paced_ms)


def called_off(health: Health, *, now_ms: int) -> Health:
    """Note that a submit that was begun was not made: a probe that tells nothing makes room for another."""
    changed = health
    if health.submit.probe_until_ms:
        changed = replace(health, submit=replace(health.submit, probe_until_ms=0))
    for name in _PAUSES[Operation.SUBMIT]:
        pause = _pause(changed, name)
        if pause.probing:
            changed = replace(changed, **{name: replace(pause, until_ms=now_ms, probing=False)})
    return changed


def cap_of(health: Health, limits: Limits) -> int | None:
    """The cap on runs in flight; None: there is none."""
    if health.window is None:
        return limits.max_in_flight
    window = max(1, int(health.window))
    return window if limits.max_in_flight is None else min(window, limits.max_in_flight)


def _fine(health: Health, operation: Operation, now_ms: int, limits: Limits) -> Health:
    before = breaker_of(health, operation)
    calls = breaker.succeeded(before, now_ms=now_ms)
    changed = health if calls is before else with_breaker(health, operation, calls)
    for name in _PAUSES[operation]:
        pause = _pause(changed, name)
        # The answer to a call that was under way when the pause began says nothing of what came since.
        if pause.times and not pause.stands(now_ms):
            changed = replace(changed, **{name: Pause()})
    if operation is not Operation.SUBMIT or changed.window is None:
        return changed
    # One more for each window's worth of submits of which none was refused.
    grown = changed.window + 1 / max(1.0, changed.window)
    # Without a configured cap it is over once twice as many ran as when it began.
    full = grown >= (2 * changed.reached if limits.max_in_flight is None else limits.max_in_flight)
    return replace(changed, window=None, reached=0) if full else replace(changed, window=grown)


def _throttled(
    health: Health, now_ms: int, in_flight: int, retry_after_s: float | None, limits: Limits
) -> Health:
    asked_ms = 0.0
    if retry_after_s is not None:
        asked_ms = min(max(retry_after_s * 1000, SHORTEST_ASKED_MS), LONGEST_ASKED_MS)
    if health.throttled.stands(now_ms):  # several were under way: they count as one
        until_ms = max(health.throttled.until_ms, now_ms + round(asked_ms))
        return replace(health, throttled=replace(health.throttled, until_ms=until_ms))
    pause = _longer(health.throttled, now_ms, FIRST_PAUSE_MS, limits.scale)
    pause = replace(pause, until_ms=max(pause.until_ms, now_ms + round(asked_ms)))
    paused = replace(_answered(health, Operation.SUBMIT), throttled=pause)
    if limits.max_in_flight is None:
        # With nothing in flight it was no cap on what is in flight that it ran into.
        window = max(1.0, in_flight * CUT) if in_flight else health.window
        return replace(paused, window=window, reached=max(in_flight, 1) if in_flight else health.reached)
    return replace(paused, window=max(1.0, (cap_of(health, limits) or 1) * CUT))


def _longer(pause: Pause, now_ms: int, first_ms: int, scale: float) -> Pause:
    if pause.stands(now_ms):
        return pause  # several calls were under way: they count as one
    length_ms = min(first_ms * 2 ** min(pause.times, 20), LONGEST_PAUSE_MS)
    return Pause(until_ms=now_ms + round(length_ms * scale), times=pause.times + 1)


def _answered(health: Health, operation: Operation) -> Health:
    """The provider answers: its breaker has no reason to stay open, whatever it says."""
    return (
        with_breaker(health, operation, breaker.CLOSED) if breaker_of(health, operation).openings else health
    )


def _pause(health: Health, name: str) -> Pause:
    found: Pause = getattr(health, name)
    return found


def breaker_of(health: Health, operation: Operation) -> Breaker:
    """The breaker of a kind of call."""
    found: Breaker = getattr(health, operation.value)
    return found


def with_breaker(health: Health, operation: Operation, calls: Breaker) -> Health:
    """The same with another breaker for a kind of call."""
    return replace(health, **{operation.value: calls})


def pauses(before: Health, after: Health) -> dict[str, tuple[Pause, Pause]]:
    """Every pause as it was and as it is, by why."""
    return {code: (_pause(before, name), _pause(after, name)) for name, (code, _) in _REASONS.items()}
