"""The moves of a game whose accounts have slots, ask for pauses and break: what a fleet shares.

One account has a few slots, the other has no limit. Jobs go to one of them, or to either.
"""

from __future__ import annotations

from typing import Any

from account_promises import place_of
from game import LIMITED, PROVIDERS, UNLIMITED, WORKERS, Underway
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from job_examples import CANCEL
from moves import DETACHES, FAILOVER, GatewayMachine, any_of, any_worker, pick, shown_as
from parked_provider import CREATE, LIST, STOP, Lost, says

from gateway.jobs.job import Attempt, AttemptState, Job

A_DAY_S = 86_400
MOST_JOBS = 7
LASTS_S = (25, 70, 400, 4000, 25, 70, 70)
"""The dust settles within that: leases lapse, then breakers and pauses of our own making, then the longest
that a provider asked for. After each come the probes that were waited for."""

WISHES = st.sampled_from([PROVIDERS[:1], PROVIDERS[:1], PROVIDERS[1:], ()])
OWNERS = st.sampled_from(["alice", "alice", "bob"])
POLICIES = st.sampled_from(["hold", "fail", "resubmit"])
DEADLINES = st.sampled_from([A_DAY_S, A_DAY_S, A_DAY_S, 600])
PAUSES = st.sampled_from([None, "7", "120", "1000"])
STATUSES = [429, 429, 429, 401, 402]
LASTS = st.sampled_from([0, 0, 1, 1, *STATUSES])
"""How a game ends: an account goes down, the track is lost of runs, or an account turns somebody away."""
SHORTEST_S = {429: 3, 401: 61, 402: 121}


class LimitedMachine(GatewayMachine):
    """The moves."""

    @initialize(
        cancel=st.sampled_from([CANCEL, DETACHES, None]),
        shows=st.sampled_from(["client_id", "inputs"]),
        slots=st.integers(1, 3),
        wishes=st.lists(WISHES, min_size=2, max_size=5),
        accepted=st.integers(0, 3),
        last=st.tuples(any_worker, st.sampled_from([LIMITED, UNLIMITED]), LASTS),
    )
    def open(
        self,
        cancel: Any,
        shows: str,
        *,
        slots: int,
        wishes: list[tuple[str, ...]],
        accepted: int,
        last: tuple[int, tuple[str, str], int],
    ) -> None:
        self.begin(cancel, shows, slots)
        self.last = last
        for at in wishes:
            self.post("hold", A_DAY_S, "a", at=at, owner="alice", told=False, failover=True)
        if accepted:
            self.work(0, MOST_JOBS, stands=True)
            for _ in range(accepted):
                if self.on.waiting(CREATE):
                    self.created(0, "made")

    @precondition(lambda self: len(self.ids()) < MOST_JOBS)
    @rule(
        policy=POLICIES,
        deadline_s=DEADLINES,
        who=st.sampled_from("ab"),
        at=WISHES,
        owner=OWNERS,
        told=st.booleans(),
        failover=FAILOVER,
    )
    def post(
        self,
        policy: Any,
        deadline_s: int,
        who: str,
        *,
        at: tuple[str, ...],
        owner: str,
        told: bool,
        failover: bool,
    ) -> None:
        self.accept(policy, deadline_s, who, told=told, failover=failover, at=at, owner=owner)

    # --- what becomes of workers ---

    @rule(worker=any_worker, limit=st.integers(1, 4))
    def hesitate(self, worker: int, limit: int) -> None:
        """A worker claims, and is stopped before it begins."""
        self.run(self.on.claim(worker, limit, begin=False))

    @precondition(lambda self: self.game.in_hand)
    @rule(which=any_of)
    def go_on(self, which: int) -> None:
        """A worker that was stopped begins what it claimed then, however things stand now."""
        self.run(self.on.begin_in_hand(pick(self.on.in_hand, which)[0]))

    # --- what providers do ---

    @precondition(lambda self: len(self.ids()) < MOST_JOBS - 1)
    @rule(
        which=any_of,
        worker=any_worker,
        place=st.sampled_from([LIMITED, UNLIMITED]),
        status=st.sampled_from(STATUSES),
        after_s=PAUSES,
    )
    def turn_away(
        self, which: int, worker: int, place: tuple[str, str], status: int, after_s: str | None
    ) -> None:
        """The provider wants nothing from an account for a while, for which two new jobs wait."""
        for who in "ab":
            self.post("hold", A_DAY_S, who, at=place[:1], owner="bob", told=False, failover=False)
        if not self.unsold(place):
            self.work(worker, 4, stands=True)
        if self.unsold(place):
            headers = {} if after_s is None else {"retry_after": after_s}
            self.run(self.on.let_go(pick(self.unsold(place), which), says(status, {}, **headers)))
            whole_s = int(after_s or SHORTEST_S[status])
            for seconds in (1, whole_s // 2, whole_s):  # in the midst of it, twice, and right after
                self.all_work(seconds)

    def unsold(self, place: tuple[str, str]) -> list[Underway]:
        """Submissions that a provider may still refuse."""
        calls = ((one, one.call) for one in self.on.waiting(CREATE))
        return [one for one, call in calls if call and call.run is None and place_of(call) == place]

    @precondition(lambda self: len(self.ids()) < MOST_JOBS - 1)
    @rule(worker=any_worker, place=st.sampled_from([LIMITED, UNLIMITED]), times=st.sampled_from([3, 8, 8]))
    def go_down(self, worker: int, place: tuple[str, str], times: int) -> None:
        """An account takes no connections while one worker tries so often, with two new jobs at least."""
        for who in "ab":
            self.post("hold", A_DAY_S, who, at=place[:1], owner="bob", told=False, failover=False)
        for _ in range(times):
            self.run(self.on.claim(worker, 4))
            for one in self.on.waiting(CREATE, sent=False):
                if one.worker == worker and one.call is not None and place_of(one.call) == place:
                    self.run(self.on.let_go(one, word=False))
                    self.seen = self.run(self.on.check())
            self.wait(9)
            self.run(self.on.heartbeat(worker))
        for seconds in (9, 15):  # while its breaker is open, if it is, and right after
            self.all_work(seconds)

    @precondition(lambda self: len(self.ids()) < MOST_JOBS - 1)
    @rule(worker=any_worker)
    def lose_track(self, worker: int) -> None:
        """Answers are lost of runs that nobody finds again, and the jobs ask to be submitted once more."""
        for who in "ab":
            self.post("resubmit", A_DAY_S, who, at=LIMITED[:1], owner="bob", told=False, failover=False)
        self.work(worker, 4, stands=True)
        for one in self.unsold(LIMITED):
            if one.call is not None and one.call.sent:
                self.on.provider.buy(one.call)
                self.run(self.on.let_go(one, Lost()))
        self.all_work(3)
        for one in self.on.waiting(LIST):
            self.run(self.on.let_go(one, says(200, [])))
        for seconds in (1, 300):
            self.all_work(seconds)

    @precondition(lambda self: self.ids())
    @rule(seconds=st.sampled_from([1, 20, 40]))
    def all_work(self, seconds: int) -> None:
        """All workers look at the same moment, and once more."""
        self.wait(seconds)
        for worker in (*range(WORKERS), *range(WORKERS)):
            self.run(self.on.claim(worker, 4))
        self.seen = self.run(self.on.check())

    # --- what must be true in the end ---

    def end(self) -> None:
        worker, place, status = self.last  # few games would come to the end of it otherwise
        if status == 0:
            self.go_down(worker, place, 8)
        elif status == 1:
            self.lose_track(worker)
        else:
            self.turn_away(0, worker, place, status, "120")
        self.run(self.dust_settles())
        super().end()

    async def dust_settles(self) -> None:
        """Time moves on, and everything is answered well: then as many run as may."""
        game = self.on
        for seconds in LASTS_S:
            game.stage.clock.advance(seconds)
            for number in (*range(WORKERS), *range(WORKERS)):
                await game.begin_in_hand(number)
                await game.heartbeat(number)
                await game.claim(number, 10)
                while game.underway:
                    one = game.underway[0]
                    await game.let_go(one, self.calm_word(one))
                self.seen = await game.check()
        book, attempts = game.account_book, [one for _, found in self.seen.values() for one in found]
        for job, found in self.seen.values():
            if self.waits(job, found):
                free = [place for place in may_go_to(job, found) if book.has_room(attempts, place)]
                assert not free, f"{job.id} waits, and {free} have room"

    def calm_word(self, one: Any) -> Any:
        """What a call hears when nothing goes wrong, and no run ends."""
        if one.call.kind in {CREATE, LIST, STOP}:
            return self.good_word(one)
        return shown_as(self.on.provider.runs.get(one.call.ref), "RUNNING")

    def waits(self, job: Job, attempts: tuple[Attempt, ...]) -> bool:
        """Whether a job is to be submitted."""
        state = job.state
        wanted = not state.status.terminal and state.held is None and state.cancel_requested_at_ms is None
        at_work = (AttemptState.SUBMITTING, AttemptState.ACCEPTED, AttemptState.UNKNOWN)
        alive = any(one.state in at_work and not one.written_off for one in attempts)
        return wanted and not alive and self.on.stage.clock.now_ms() < state.deadline_at_ms


def may_go_to(job: Job, attempts: tuple[Attempt, ...]) -> list[tuple[str, str]]:
    """Tell which accounts may have a job that waits."""
    wish = job.request.routing
    had = [(one.provider, one.account) for one in attempts if one.error is not None or one.accepted_at_ms]
    failed = {(one.provider, one.account) for one in attempts if one.state is AttemptState.FAILED}
    return [
        place
        for place in (LIMITED, UNLIMITED)
        if (not wish.providers or place[0] in wish.providers)
        and place not in failed
        and (wish.failover or not had or place == had[-1])
    ]
