"""Random lives of jobs: the invariants hold, and the log replays to the job."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from job_examples import NOW_MS, OUTPUT_URL, a_job, a_request, a_spec, a_webhook, an_attempt
from msgspec.structs import replace
from replayed_log import replay_attempts, replay_state

from gateway.jobs import transitions
from gateway.jobs.history import Changes, Replay, changed
from gateway.jobs.job import (
    LIVE,
    Attempt,
    AttemptState,
    Job,
    JobState,
    Output,
    UnknownPolicy,
    in_doubt,
    latest,
)
from gateway.jobs.transitions import ENDED, Step
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.normalize import Update
from providers.contract.report import Cost
from providers.contract.status import JobStatus

SPEC = a_spec()
ERROR = UpstreamError(code=ErrorCode.PROVIDER_ERROR, message="broken", provider_code="E.1")
OPEN = {AttemptState.SUBMITTING, AttemptState.UNKNOWN}


class Life(RuleBasedStateMachine):
    """One job, to which whatever can happen happens in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = NOW_MS
        self.job: Job = a_job()
        self.attempts: dict[str, Attempt] = {}
        self.states: list[Changes] = [changed(None, self.job.state)]
        self.tries: list[Changes] = []
        self.replay = Replay()
        self.replay.take(self.states[0], None)
        self.told: list[str] = []

    @property
    def current(self) -> Attempt:
        found = latest(tuple(self.attempts.values()))
        assert found is not None
        return found

    def is_at(self, *states: AttemptState) -> bool:
        return bool(self.attempts) and self.current.state in states

    def carry_out(self, step: Step) -> None:
        """As `service.record` does; and each single step keeps the rules."""
        before = self.job
        if not step.events:
            assert step.job.state == before.state
            return
        if before.state.status.terminal:
            may_bill = step.job.state.provider_may_bill
            assert step.job.state == replace(before.state, provider_may_bill=may_bill)
            doubted = [one for one in self.attempts.values() if one.state is AttemptState.UNKNOWN]
            unmade = step.attempt is not None and step.attempt.state is AttemptState.REFUSED
            assert may_bill or not before.state.provider_may_bill or (unmade and len(doubted) == 1)
            assert not {event.type for event in step.events} & set(ENDED.values())
        assert step.job.state.status.rank >= before.state.status.rank
        assert (step.job.progress or 0.0) >= (before.progress or 0.0)
        self.states.append(changed(before.state, step.job.state))
        self.replay.take(self.states[-1], None)
        self.job = step.job
        self.told += [event.type for event in step.events]
        if step.attempt is not None:
            previous = self.attempts.get(step.attempt.id)
            self.tries.append({"id": step.attempt.id, **changed(previous, step.attempt)})
            self.replay.take(None, self.tries[-1])
            self.attempts[step.attempt.id] = step.attempt

    @initialize(policy=st.sampled_from(["hold", "fail", "resubmit"]))
    def asked(self, policy: UnknownPolicy) -> None:
        self.job = a_job(request=a_request(webhook=a_webhook(), on_unknown_submission=policy))

    @property
    def in_doubt(self) -> bool:
        return in_doubt(tuple(self.attempts.values())) is not None

    @property
    def written_off(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if attempt.written_off]

    @rule(seconds=st.integers(0, 400))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1000

    @precondition(lambda self: not self.alive() and not self.job.state.status.terminal)
    @rule()
    def begin(self) -> None:
        attempt = an_attempt(number=len(self.attempts) + 1, started_at_ms=self.now_ms)
        if self.job.state.cancel_requested_at_ms is None:
            self.carry_out(transitions.begin(self.job, attempt))

    @precondition(lambda self: self.is_at(*OPEN) and not self.current.written_off)
    @rule()
    def accepted(self) -> None:
        self.carry_out(
            transitions.accepted(
                self.job, self.current, ref="r", now_ms=self.now_ms, poll_at_ms=self.now_ms + 5
            )
        )

    @precondition(lambda self: self.is_at(AttemptState.SUBMITTING))
    @rule(again=st.booleans())
    def refused(self, again: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        again_at_ms = self.now_ms + 1000 if again else None
        self.carry_out(
            transitions.refused(
                self.job,
                self.current,
                error=ERROR,
                now_ms=self.now_ms,
                again_at_ms=again_at_ms,
                others=tuple(self.attempts.values()),
            )
        )

    @precondition(lambda self: self.is_at(AttemptState.SUBMITTING))
    @rule(can_look=st.booleans())
    def unknown(self, can_look: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        self.carry_out(
            transitions.unknown(
                self.job,
                self.current,
                reason="silence",
                now_ms=self.now_ms,
                hold_until_ms=self.now_ms + 100_000,
                look_at_ms=self.now_ms + 5 if can_look else None,
                resubmitted=bool(self.written_off),
            )
        )

    @precondition(lambda self: self.job.state.held is not None)
    @rule(resolved=st.booleans())
    def adopted(self, resolved: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        step = transitions.adopted(self.job, self.current, ref="r", by="inputs", now_ms=self.now_ms)
        self.carry_out(transitions.resolved(step, action="adopt", by="key") if resolved else step)

    @precondition(lambda self: self.job.state.held is not None)
    @rule()
    def written_off_by_an_operator(self) -> None:
        self.carry_out(transitions.written_off(self.job, self.current, by="operator", now_ms=self.now_ms))

    @precondition(lambda self: self.job.state.held is not None)
    @rule()
    def abandoned(self) -> None:
        self.carry_out(transitions.abandoned(self.job, message="enough", now_ms=self.now_ms))

    @precondition(lambda self: self.written_off)
    @rule(data=st.data(), made=st.booleans())
    def answered_late(self, data: st.DataObject, made: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        attempt = data.draw(st.sampled_from(self.written_off))
        before = self.job
        if attempt.state is not AttemptState.UNKNOWN:
            return
        if made:
            step = transitions.accepted(
                self.job, attempt, ref="late", now_ms=self.now_ms, poll_at_ms=self.now_ms
            )
        else:
            step = transitions.refused(
                self.job,
                attempt,
                error=ERROR,
                now_ms=self.now_ms,
                again_at_ms=self.now_ms,
                others=tuple(self.attempts.values()),
            )
        assert step.follow_ups == ()
        self.carry_out(step)
        may_bill = self.job.state.provider_may_bill
        assert self.job.state == replace(before.state, provider_may_bill=may_bill)
        assert may_bill or not made

    @precondition(lambda self: self.is_at(AttemptState.ACCEPTED))
    @rule(
        status=st.sampled_from([None, *JobStatus]),
        progress=st.none() | st.floats(0, 1),
        cost=st.none() | st.just(Cost(credits=2.0, micro_usd=20_000)),
    )
    def polled(self, status: JobStatus | None, progress: float | None, cost: Cost | None) -> None:
        word = "WEIRD" if status is None else status.value
        update = Update(
            provider_status=word,
            status=status,
            progress=progress,
            cost=cost,
            outputs=(OUTPUT_URL,) if status is JobStatus.SUCCEEDED else (),
            error=ERROR if status is JobStatus.FAILED else None,
        )
        self.carry_out(
            transitions.observed(self.job, self.current, update=update, spec=SPEC, now_ms=self.now_ms)
        )

    @precondition(lambda self: self.is_at(AttemptState.ACCEPTED))
    @rule(may_bill=st.booleans())
    def stopped_upstream(self, may_bill: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        self.carry_out(
            transitions.cancelled_upstream(self.job, self.current, now_ms=self.now_ms, may_bill=may_bill)
        )

    @precondition(lambda self: self.is_at(AttemptState.ACCEPTED))
    @rule()
    def lost(self) -> None:
        self.carry_out(transitions.lost(self.job, self.current, now_ms=self.now_ms))

    @rule()
    def cancel(self) -> None:
        attempts = tuple(self.attempts.values())
        self.carry_out(transitions.cancel_requested(self.job, attempts, now_ms=self.now_ms))

    @rule()
    def sweep(self) -> None:
        attempts = tuple(self.attempts.values())
        self.carry_out(transitions.deadline_passed(self.job, attempts, now_ms=self.now_ms))
        self.carry_out(transitions.hold_expired(self.job, now_ms=self.now_ms))

    @invariant()
    def the_log_replays_to_the_job(self) -> None:
        assert replay_state(self.states) == self.job.state
        assert replay_attempts(self.tries) == self.attempts
        # Entry by entry, as those who watch are told of it.
        assert self.replay.state() == self.job.state
        assert {attempt.id: attempt for attempt in self.replay.attempts()} == self.attempts

    @invariant()
    def it_ends_once_and_says_when(self) -> None:
        ends = [event for event in self.told if event in ENDED.values()]
        assert len(ends) == int(self.job.state.status.terminal)
        assert self.job.state.status.terminal == (self.job.state.finished_at_ms is not None)

    @invariant()
    def it_is_held_only_while_in_doubt(self) -> None:
        held = self.job.state.held is not None
        assert held == (self.in_doubt and not self.job.state.status.terminal)

    @invariant()
    def at_most_one_attempt_is_alive(self) -> None:
        assert self.alive() <= 1

    @invariant()
    def what_was_written_off_may_be_billed(self) -> None:
        assert self.job.state.provider_may_bill or not self.written_off

    def alive(self) -> int:
        return sum(one.state in LIVE and not one.written_off for one in self.attempts.values())


TestLife = Life.TestCase
TestLife.settings = settings(
    derandomize=True, database=None, deadline=None, max_examples=150, stateful_step_count=25
)


def test_only_what_differs_is_logged_and_a_return_to_the_default_is_none() -> None:
    before = JobState(deadline_at_ms=1, provider="acme", cancel_requested_at_ms=5)
    after = JobState(deadline_at_ms=2, provider="acme", provider_may_bill=True)
    assert changed(before, after) == {
        "deadline_at_ms": 2,
        "provider_may_bill": True,
        "cancel_requested_at_ms": None,
    }
    assert replay_state([changed(None, before), changed(before, after)]) == after


def test_no_change_is_an_empty_entry() -> None:
    state = a_job().state
    assert changed(state, state) == {}


def test_attempts_are_told_apart_by_id() -> None:
    first, second = an_attempt(), an_attempt(number=2)
    done = replace(second, state=AttemptState.ACCEPTED, ref="r")
    log: list[Changes] = [
        {"id": first.id, **changed(None, first)},
        {"id": second.id, **changed(None, second)},
        {"id": second.id, **changed(second, done)},
    ]
    assert replay_attempts(log) == {first.id: first, second.id: done}


@pytest.mark.parametrize("through_json", [True, False])
def test_the_log_survives_json(through_json: bool) -> None:  # noqa: FBT001 - a column
    state = JobState(
        deadline_at_ms=1,
        outputs=(Output(url=OUTPUT_URL, content_type="video/mp4", expires_at_ms=9),),
        error=ERROR,
    )
    log: Any = [changed(None, state)]
    if through_json:
        log = msgspec.json.decode(msgspec.json.encode(log))
    assert replay_state(log) == state
