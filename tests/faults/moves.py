"""The moves of a game: requests, answers, deaths, lapsed leases and late words, in any order.

The gateway's books and its provider's agree at every step, and in the end every job has ended, and owns up to
what was bought for it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from game import OPERATOR, WORKERS, Game, Underway
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from invariants import check_invariants
from job_examples import CANCEL, a_request, a_webhook
from msgspec.structs import replace
from parked_provider import CREATE, LIST, OUTPUT, SHOW, STOP, Lost, Run, says

from gateway.errors import Refusal
from gateway.jobs.job import Attempt, AttemptState, Job, RoutingWish, in_doubt
from gateway.jobs.transitions import TaskKind
from gateway.service.holds import Action, AdoptRun, GiveUp, SubmitAgain
from gateway.service.jobs import Jobs
from gateway.storage import tables
from providers.contract.motion import Character, CharacterType

T = TypeVar("T")

DETACHES = replace(CANCEL, stops=False)
ENDS = ("SUCCEEDED", "FAILED", "CANCELLED")
CREATED = ["made", "made-and-lost", "made-and-500", "made-and-rubbish", "lost", "503", "422", "429"]
SHOWN = [
    "QUEUED",
    "RUNNING",
    "WEIRD",
    "404",
    "500",
    "lost",
    "no-output",
    *ENDS,
    "SUCCEEDED",
    "FAILED",
    "FAILED",
]
LONGEST_S = 20_000.0

MOST_JOBS, MOST_CANCELS = 4, 2
LEASE_LAPSED_S = 25

any_of = st.integers(0, 11)
any_worker = st.integers(0, WORKERS - 1)
FAILOVER = st.sampled_from([True, True, True, False])
POLICIES = st.sampled_from(["hold", "hold", "fail", "resubmit"])
SECONDS = st.sampled_from([1, 6, 6, 12, 12, 25, 25, 25, 40, 130, 700, 4000])


class GatewayMachine(RuleBasedStateMachine):
    """The moves."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="motion-gateway-game-"))
        self.game: Game | None = None
        self.seen: Mapping[str, tuple[Job, tuple[Attempt, ...]]] = {}

    def run(self, move: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(move)

    @initialize(
        cancel=st.sampled_from([CANCEL, DETACHES, None]),
        shows=st.sampled_from(["client_id", "inputs"]),
        posts=st.lists(st.tuples(POLICIES, st.sampled_from("ab"), FAILOVER), min_size=1, max_size=3),
        accepted=st.booleans(),
        failed=st.booleans(),
    )
    def open(
        self, cancel: Any, shows: str, posts: list[tuple[Any, str, bool]], *, accepted: bool, failed: bool
    ) -> None:
        self.begin(cancel, shows)
        for policy, who, failover in posts:
            self.accept(policy, 600, who, told=True, failover=failover)
        if accepted:  # else few games would come as far as to many polls
            self.work(0, MOST_JOBS, stands=True)
            while self.on.waiting(CREATE):
                self.created(0, "made")
            self.wait_and_work(6, 0, sweeps=False, beats=True)
            while failed and self.on.waiting(SHOW):
                self.shown(0, "FAILED")

    def begin(self, cancel: Any, shows: str, slots: int | None = None) -> None:
        async def begin() -> Game:
            return Game(self.folder, cancel, slots)

        self.game, self.shows = self.run(begin()), shows

    @property
    def on(self) -> Game:
        assert self.game is not None
        return self.game

    def ids(self) -> list[str]:
        """Jobs that have not ended, the oldest first."""
        return sorted(job_id for job_id, (job, _) in self.seen.items() if not job.state.status.terminal)

    def tried(self) -> list[str]:
        """Those of them that were submitted at least once."""
        return [job_id for job_id in self.ids() if self.seen[job_id][1]]

    def held(self) -> list[str]:
        return sorted(job_id for job_id, (job, _) in self.seen.items() if job.state.held is not None)

    # --- what clients and operators do ---

    @precondition(lambda self: len(self.ids()) < MOST_JOBS)
    @rule(
        policy=POLICIES,
        deadline_s=st.sampled_from([60, 600]),
        told=st.booleans(),
        who=st.sampled_from("ab"),
        failover=FAILOVER,
    )
    def post(self, policy: Any, deadline_s: int, who: str, *, told: bool, failover: bool) -> None:
        self.accept(policy, deadline_s, who, told=told, failover=failover)

    def accept(
        self,
        policy: Any,
        deadline_s: int,
        who: str,
        *,
        told: bool,
        failover: bool,
        at: tuple[str, ...] = (),
        **changes: Any,
    ) -> None:
        request = a_request(
            character=Character(type=CharacterType.IMAGE, url=f"https://media.example/{who}.png"),
            deadline_s=deadline_s,
            on_unknown_submission=policy,
            routing=RoutingWish(providers=at, failover=failover),
            webhook=a_webhook() if told else None,
        )
        job_id = self.run(self.on.stage.accept(request, **changes))
        self.on.book.risked[job_id] += policy == "resubmit"

    @precondition(lambda self: len(self.game.book.wanted_off) < MOST_CANCELS and self.tried())
    @rule(which=any_of)
    def cancel(self, which: int) -> None:
        job_id = pick(self.tried(), which)
        stage = self.on.stage
        try:
            self.run(Jobs(stage.database, stage.clock, stage.record).cancel(job_id, owner=None))
        except Refusal:
            return
        self.on.book.wanted_off.add(job_id)

    @precondition(lambda self: self.held())
    @rule(which=any_of, word=st.sampled_from(["adopt", "adopt", "resubmit", "fail"]))
    def resolve(self, which: int, word: str) -> None:
        job_id = pick(self.held(), which)
        doubted = in_doubt(self.seen[job_id][1])
        runs = [run.ref for run in self.on.provider.runs.values() if doubted and run.attempt_id == doubted.id]
        actions: dict[str, Action] = {
            "adopt": AdoptRun(runs[0] if runs else "nobody-knows"),
            "resubmit": SubmitAgain(),
            "fail": GiveUp(),
        }
        self.on.book.risked[job_id] += word == "resubmit"

        async def act() -> None:
            self.on.begin(Underway(OPERATOR), self.on.holds.resolve(job_id, actions[word], by="key_1"))
            await self.on.quiet()

        self.run(act())

    # --- what workers do, and what becomes of them ---

    @rule(worker=any_worker, limit=st.integers(1, 4), stands=st.booleans())
    def work(self, worker: int, limit: int, *, stands: bool) -> None:
        """Claim and begin; the connections stand at once, or are still being made."""
        self.run(self.on.claim(worker, limit))
        for one in self.on.waiting(CREATE, sent=False):
            if stands and one.worker == worker:
                self.stand(one)

    def stand(self, one: Underway) -> None:
        """A connection for a submission stands; whether anything is sent must depend on how it stands now."""
        assert one.call is not None
        attempt_id = one.call.attempt_id
        jobs = self.run(self.on.jobs())
        states = {attempt.id: attempt.state for _, attempts in jobs.values() for attempt in attempts}
        self.run(self.on.let_go(one, word=True))
        sent = one.call is not None
        assert states[attempt_id] is AttemptState.SUBMITTING or not sent, (
            f"{attempt_id} was sent all the same"
        )

    @rule(seconds=SECONDS, worker=any_worker, sweeps=st.booleans(), beats=st.booleans())
    def wait_and_work(self, seconds: int, worker: int, *, sweeps: bool, beats: bool) -> None:
        self.wait(seconds)
        if sweeps:
            self.run(self.on.workers[worker].sweep())
        if beats:
            self.run(self.on.heartbeat(worker))
        self.work(worker, 4, stands=True)

    @precondition(lambda self: self.game.underway)
    @rule(which=any_of)
    def take_over(self, which: int) -> None:
        """A worker sleeps through its lease in the middle of a step, and another takes its work."""
        sleeper = pick(self.on.underway, which).worker
        self.wait(LEASE_LAPSED_S)
        self.work((sleeper + 1) % WORKERS, 4, stands=False)

    @rule(worker=any_worker, bought=st.booleans())
    def die(self, worker: int, *, bought: bool) -> None:
        for one in self.on.waiting(CREATE):
            if bought and one.worker == worker and one.call is not None:
                self.on.provider.buy(one.call)
        self.run(self.on.kill(worker))

    def wait(self, seconds: int) -> None:
        self.on.stage.clock.advance(seconds)

    # --- what the provider and the network do ---

    @precondition(lambda self: self.game.waiting(CREATE, sent=False))
    @rule(which=any_of, stands=st.sampled_from([True, True, True, False]))
    def connect(self, which: int, *, stands: bool) -> None:
        one = pick(self.on.waiting(CREATE, sent=False), which)
        if stands:
            self.stand(one)
        else:
            self.run(self.on.let_go(one, word=False))

    @precondition(lambda self: self.game.waiting(CREATE))
    @rule(which=any_of)
    def sell(self, which: int) -> None:
        """The provider takes the job, and its answer is on the way."""
        call = pick(self.on.waiting(CREATE), which).call
        assert call is not None
        self.on.provider.buy(call)

    @precondition(lambda self: self.game.waiting(CREATE))
    @rule(which=any_of, how=st.sampled_from(CREATED))
    def created(self, which: int, how: str) -> None:
        one = pick(self.on.waiting(CREATE), which)
        call = one.call
        assert call is not None
        if call.run is not None and how in {"422", "429"}:
            how = "made"  # it cannot refuse what it took
        run = self.on.provider.buy(call) if how.startswith("made") else call.run
        answers: dict[str, Any] = {
            "made": says(201, {"id": run.ref}) if run is not None else None,
            "made-and-500": says(500),
            "made-and-rubbish": says(200),
            "503": says(503),
            "422": says(422, {"code": "bad", "message": "no"}),
            "429": says(429),
        }
        self.run(self.on.let_go(one, answers.get(how, Lost())))

    @precondition(lambda self: self.game.waiting(SHOW))
    @rule(which=any_of, word=st.sampled_from(SHOWN))
    def shown(self, which: int, word: str) -> None:
        one = pick(self.on.waiting(SHOW), which)
        assert one.call is not None
        self.run(self.on.let_go(one, shown_as(self.on.provider.runs.get(one.call.ref), word)))

    @precondition(lambda self: self.game.waiting(STOP))
    @rule(which=any_of, word=st.sampled_from(["done", "done", "404", "500", "lost"]))
    def stopped(self, which: int, word: str) -> None:
        one = pick(self.on.waiting(STOP), which)
        self.run(
            self.on.let_go(one, {"done": says(200, {}), "404": says(404), "500": says(500)}.get(word, Lost()))
        )

    @precondition(lambda self: self.game.waiting(LIST))
    @rule(which=any_of, word=st.sampled_from(["all", "all", "none", "late", "500", "lost"]))
    def listed(self, which: int, word: str) -> None:
        one = pick(self.on.waiting(LIST), which)
        assert one.call is not None
        rows = [row_of(run, self.shows) for run in self.on.provider.known(one.call)]
        found = {"all": rows, "none": [], "late": rows[:-1]}
        answer = says(200, found[word]) if word in found else says(500) if word == "500" else Lost()
        self.run(self.on.let_go(one, answer))

    # --- what must be true all the time, and in the end ---

    @invariant()
    def books_agree(self) -> None:
        if self.game is not None:
            self.seen = self.run(self.game.check())
            check_invariants(self.game.path)

    def teardown(self) -> None:
        if self.game is not None:
            self.end()
            self.run(self.game.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def end(self) -> None:
        """See what comes of it all."""
        self.run(self.end_well(self.on))
        self.on.book.check_bills(self.run(self.on.jobs()))
        self.books_agree()

    async def end_well(self, game: Game) -> None:
        """From here on everything goes well: nothing may have been forgotten."""
        waited_s, pause_s = 0.0, 5.0
        while waited_s < LONGEST_S:
            while game.underway:
                one = game.underway[0]
                await game.let_go(one, self.good_word(one))
            for number in range(WORKERS):
                await game.workers[number].sweep()
                await game.begin_in_hand(number)
                await game.heartbeat(number)
                await game.claim(number, 10)
                await game.check()
            if not game.underway:
                if await at_rest(game):
                    return
                game.stage.clock.advance(pause_s)
                waited_s, pause_s = waited_s + pause_s, min(300.0, pause_s * 1.5)
        raise AssertionError("it never came to rest")

    def good_word(self, one: Underway) -> Any:
        """What a call hears when nothing goes wrong."""
        call, provider = one.call, self.on.provider
        assert call is not None
        if not call.sent:
            return True
        match call.kind:
            case "create":
                return says(201, {"id": provider.buy(call).ref})
            case "show":
                return shown_as(provider.runs.get(call.ref), "SUCCEEDED")
            case "stop":
                return says(200, {})
            case _:
                return says(200, [row_of(run, self.shows) for run in provider.known(call)])


def pick(found: Sequence[T], which: int) -> T:
    return found[which % len(found)]


async def at_rest(game: Game) -> bool:
    """Whether every job has ended, and nothing is left to do."""
    ended = all(job.state.status.terminal for job, _ in (await game.jobs()).values())
    due = [row for row in await game.stage.rows(tables.tasks) if row["kind"] != TaskKind.DELIVER]
    return ended and not due


def shown_as(run: Run | None, word: str) -> Any:
    """The provider's answer to a poll: an end, once told, stays."""
    if run is None:
        return says(404)
    if word == "lost":
        return Lost()
    if word in {"404", "500"}:
        run.told.add(word)
        return says(int(word))
    end = next((one for one in ENDS if one in run.told), None)
    if end is not None and word in ENDS:
        word = end
    run.told.add(word)
    if word == "no-output":
        return says(200, {"status": "SUCCEEDED"})
    return says(200, {"status": word, "url": OUTPUT.format(run.ref) if word == "SUCCEEDED" else None})


def row_of(run: Run, shows: str) -> dict[str, Any]:
    """A run in the provider's list: with our attempt's id, or with what it was asked."""
    row: dict[str, Any] = {"ref": run.ref, "created_ms": run.at_ms}
    return row | ({"client_id": run.attempt_id} if shows == "client_id" else {"inputs": run.body})
