"""What must be true of accounts that have limits, told by the promises alone.

A model for tests that play with the gateway: it sees when a submission begins and what its provider answers,
and says when that should not have begun. Where the gateway may be more careful than was promised, it says
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import httpx
from msgspec import Struct
from parked_provider import Call, Lost, ParkedProvider, Run
from promises import Jobs

from gateway.clock import Clock
from gateway.jobs.job import Attempt, AttemptState
from gateway.routing.breaker import Breaker

Place = tuple[str, str]
"""(provider, account)."""

ENDS: Final = {"SUCCEEDED", "FAILED", "CANCELLED", "no-output", "404"}
IN_A_ROW, OPEN_MS, PROBE_MS = 5, 30_000, 90_000
PAUSES_MS: Final = {429: 2_000, 401: 60_000, 402: 120_000}
"""By what was answered: how long nothing begins at least."""
LONGEST_RUN_MS: Final = 900_000
AT_WORK: Final = {AttemptState.SUBMITTING, AttemptState.ACCEPTED}


class Pause(Struct):
    """Nothing begins until that instant; then one at a time, until one goes well."""

    until_ms: int


class AccountBook:
    """What was asked of each account, and what it answered.

    Args:
        provider: where.
        clock: dates everything.
        slots: of the accounts that have any.
    """

    def __init__(self, provider: ParkedProvider, clock: Clock, slots: Mapping[Place, int]) -> None:
        self._provider, self._clock, self._slots = provider, clock, slots
        self._began_ms: dict[str, int] = {}
        self._known: set[str] = set()
        self._wrong: list[str] = []
        self._pauses: dict[Place, dict[int, Pause]] = defaultdict(dict)
        self._probes: dict[Place, str] = {}
        self._breakers: dict[Place, Breaker] = {}
        self._failures: dict[tuple[int, Place], int] = defaultdict(int)
        self._broken: dict[Place, int] = {}
        self._cut: set[Place] = set()

    # --- what happens ---

    def begun(self, call: Call) -> None:
        """A submission begins: its connection is being made."""
        place, now_ms = place_of(call), self._clock.now_ms()
        self._began_ms[call.attempt_id] = now_ms
        for until_ms, why in self._shut(place):
            if now_ms < until_ms:
                self._say(call, f"{why}, for another {until_ms - now_ms} ms")
        probe = self._probes.get(place)
        if self._on_trial(place):
            if probe is not None and now_ms < self._began_ms[probe] + PROBE_MS:
                self._say(call, f"{probe} is under way to try it")
            self._probes[place] = call.attempt_id
        elsewhere = [one for one in self._running(place) if one != call.attempt_id]
        if place in self._slots and len(elsewhere) >= self._slots[place]:
            self._say(call, f"{elsewhere} may be running there")

    def heard(self, call: Call, worker: int, word: httpx.Response | Lost | bool, *, ours: bool) -> None:  # noqa: FBT001  (whether a connection stood)
        """A submission is answered; `ours`: by somebody whose word on it still counts."""
        place, now_ms = place_of(call), self._clock.now_ms()
        if word is True:
            return  # its bytes go out now, unless it is not wanted any more
        self._probes.pop(place, None)
        status = word.status_code if isinstance(word, httpx.Response) else 0  # 0: no answer
        failed = status in {0, 200} or status >= 500
        if (
            failed and not ours
        ):  # doubt is told by whoever has the task; every other answer holds for everybody
            self._failures[worker, place] = 0
            return
        if failed:
            self._failures[worker, place] += 1
            if self._failures[worker, place] == IN_A_ROW and place not in self._breakers:
                self._broken[place] = now_ms + OPEN_MS
            return
        self._breakers.pop(place, None)
        if status in PAUSES_MS and isinstance(word, httpx.Response):
            self._pause(place, status, word.headers.get("retry-after"))
            return
        self._failures[worker, place] = 0
        pauses = self._pauses[place]
        self._pauses[place] = {kind: pause for kind, pause in pauses.items() if now_ms < pause.until_ms}

    def withheld(self, call: Call) -> None:
        """A submission was not sent after all: it tells nothing."""
        self._probes.pop(place_of(call), None)

    def asked(self, call: Call, word: httpx.Response) -> None:
        """A free question is answered, which says that the account's key is good."""
        pause = self._pauses[place_of(call)].get(401)
        if pause is not None and word.status_code in {200, 404} and self._clock.now_ms() >= pause.until_ms:
            del self._pauses[place_of(call)][401]

    def died(self, worker: int) -> None:
        """What a process counted by itself goes with it."""
        self._failures = defaultdict(
            int, {key: count for key, count in self._failures.items() if key[0] != worker}
        )

    # --- what must be true ---

    def check(self, jobs: Jobs, breakers: Mapping[Place, Breaker]) -> None:
        """Compare what began since the last time with what was allowed to.

        Args:
            jobs: as they stand.
            breakers: of submits, as all processes are told of them.
        """
        assert not self._wrong, self._wrong
        for place, until_ms in self._broken.items():
            shown = breakers.get(place, Breaker()).open_until_ms
            assert shown >= until_ms, f"{place} failed {IN_A_ROW} times in a row, and is shut until {shown}"
        self._broken.clear()
        self._breakers = {place: one for place, one in breakers.items() if one.openings}
        for place in self._breakers:
            self._failures = defaultdict(
                int, {key: count for key, count in self._failures.items() if key[1] != place}
            )
        attempts = {one.id: one for _, found in jobs.values() for one in found}
        for place, slots in self._slots.items():
            # One that was found again after so long is only asked how it ended: its slot was given back.
            holders = [
                one for one in self.holders(attempts.values(), place) if not _given_back(attempts[one])
            ]
            if any(one not in self._known for one in holders):
                held = {one: (attempts[one].state, attempts[one].started_at_ms) for one in holders}
                assert len(holders) <= slots, f"{place} has {slots} slots, and these hold one: {held}"
        self._known.update(attempts)

    def holders(self, attempts: Iterable[Attempt], place: Place) -> list[str]:
        """Tell which attempts hold a slot: until their end, or in doubt until no run lasts that long."""
        since_ms = self._clock.now_ms() - LONGEST_RUN_MS
        return [
            one.id
            for one in attempts
            if (one.provider, one.account) == place
            and (one.state in AT_WORK or (one.state is AttemptState.UNKNOWN and one.started_at_ms > since_ms))
        ]

    def has_room(self, attempts: Iterable[Attempt], place: Place) -> bool:
        """Whether something must be let begin at an account, once nothing is shut any more."""
        slots = 1 if place in self._cut else self._slots.get(place)
        return slots is None or len(self.holders(attempts, place)) < slots

    def _running(self, place: Place) -> list[str]:
        """Tell what may be running at an account, by what it sold and what it is just being asked."""
        runs = [run.attempt_id for run in self._provider.runs.values() if not over(run)]
        asked = [call.attempt_id for call in self._provider.waiting if call.attempt_id and call.run is None]
        hosts = {run.attempt_id: run.host for run in self._provider.runs.values()}
        hosts |= {call.attempt_id: call.request.url.host for call in self._provider.waiting}
        since_ms = self._clock.now_ms() - LONGEST_RUN_MS
        return [
            one for one in (*runs, *asked) if hosts[one] == host_of(place) and self._began_ms[one] > since_ms
        ]

    def _shut(self, place: Place) -> Iterable[tuple[int, str]]:
        for kind, pause in self._pauses[place].items():
            yield pause.until_ms, f"it answered {kind}"
        if place in self._breakers:
            yield self._breakers[place].open_until_ms, "its breaker is open"

    def _on_trial(self, place: Place) -> bool:
        return bool(self._pauses[place]) or place in self._breakers

    def _pause(self, place: Place, status: int, asked_s: str | None) -> None:
        now_ms, asked_ms = self._clock.now_ms(), 0
        if status == 429:  # the others heed no Retry-After
            self._cut.add(place)
            asked_ms = 0 if asked_s is None else int(asked_s) * 1000
        before = self._pauses[place].get(status)
        if before is not None and now_ms < before.until_ms:  # several were under way: they count as one
            before.until_ms = max(before.until_ms, now_ms + asked_ms)
            return
        self._pauses[place][status] = Pause(until_ms=now_ms + max(PAUSES_MS[status], asked_ms))

    def _say(self, call: Call, what: str) -> None:
        self._wrong.append(f"{call.attempt_id} begins at {place_of(call)}, and {what}")


def _given_back(attempt: Attempt) -> bool:
    accepted_ms = attempt.accepted_at_ms
    doubted = attempt.doubted_at_ms is not None and accepted_ms is not None
    return doubted and (accepted_ms or 0) - attempt.started_at_ms >= LONGEST_RUN_MS


def over(run: Run) -> bool:
    """Whether a run has ended, as far as its provider ever tells."""
    return run.stopped or bool(run.told & ENDS)


def host_of(place: Place) -> str:
    """Name the host of an account."""
    return f"{place[0]}.example"


def place_of(call: Call) -> Place:
    """Tell the account that a call is made with, by its host."""
    return call.request.url.host.partition(".")[0], "default"
