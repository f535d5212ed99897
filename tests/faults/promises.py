"""What must be true of a gateway's jobs, told by the promises alone: it knows neither transitions nor tables.

A model for tests that play with the gateway: it is told what was asked for, sees what the provider sold, and
compares every job with that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from parked_provider import OUTPUT, ParkedProvider

from gateway.clock import Clock
from gateway.jobs.job import Attempt, AttemptState, Job
from providers.contract.status import JobStatus

RANK = {JobStatus.QUEUED: 0, JobStatus.RUNNING: 1}
TERMINAL_RANK = 2
MAY_LIVE = {AttemptState.SUBMITTING, AttemptState.ACCEPTED, AttemptState.UNKNOWN}

Jobs = Mapping[str, tuple[Job, tuple[Attempt, ...]]]


class Book:
    """What must be true of one gateway, told by what was asked of it and what its provider did."""

    def __init__(self, provider: ParkedProvider, clock: Clock) -> None:
        self._provider, self._clock = provider, clock
        self.wanted_off: set[str] = set()
        """Jobs whose cancel was asked for."""
        self.risked: dict[str, int] = defaultdict(int)
        """How often somebody accepted the risk of paying twice, by job."""
        self._ranks: dict[str, int] = {}
        self._ends: dict[str, object] = {}

    def check(self, jobs: Jobs) -> None:
        """Compare every job with the provider's books."""
        owners = {attempt.id: job_id for job_id, (_, attempts) in jobs.items() for attempt in attempts}
        bought: dict[str, int] = defaultdict(int)
        for run in self._provider.runs.values():
            assert run.attempt_id in owners, f"{run.ref} was bought, and nobody knows its attempt"
            bought[owners[run.attempt_id]] += 1
        for job_id, (job, attempts) in jobs.items():
            written_off = sum(attempt.written_off for attempt in attempts)
            assert written_off <= self.risked[job_id], f"{job_id} was written off, and nobody asked for it"
            failed = self._failed_over(job, attempts)
            assert bought[job_id] <= 1 + written_off + failed, f"{job_id} was bought {bought[job_id]} times"
            live = [one for one in attempts if one.state in MAY_LIVE and not one.written_off]
            assert len(live) <= 1, f"{job_id} has {len(live)} attempts alive"
            for attempt in attempts:
                self._check_attempt(attempt)
            self._check_course(job, attempts)

    def _failed_over(self, job: Job, attempts: tuple[Attempt, ...]) -> int:
        """Count the runs that failed and were followed by another, elsewhere, as the job allowed."""
        moved = [one for one in attempts[:-1] if one.state is AttemptState.FAILED]
        for attempt in moved:
            run = self._provider.runs[attempt.ref or ""]
            assert "FAILED" in run.told, f"{attempt.id} was given up, and its provider did not say it failed"
            assert job.request.routing.failover, f"{job.id} was to be tried once"
        ran = [(one.provider, one.account) for one in attempts if one.accepted_at_ms and not one.written_off]
        assert len(set(ran)) == len(ran), f"{job.id} ran twice at one account: {ran}"
        return len(moved)

    def _check_attempt(self, attempt: Attempt) -> None:
        runs = [run for run in self._provider.runs.values() if run.attempt_id == attempt.id]
        assert len(runs) <= 1, f"{attempt.id} was bought {len(runs)} times"
        if attempt.state is AttemptState.REFUSED:
            assert not runs, f"{attempt.id} is called refused, and {runs[0].ref} was bought for it"
        if attempt.ref is not None:
            assert [run.ref for run in runs] == [attempt.ref], f"{attempt.id} has the run {attempt.ref}"

    def _check_course(self, job: Job, attempts: tuple[Attempt, ...]) -> None:
        state = job.state
        rank = RANK.get(state.status, TERMINAL_RANK)
        assert rank >= self._ranks.get(job.id, 0), f"{job.id} fell back to {state.status}"
        self._ranks[job.id] = rank
        if rank < TERMINAL_RANK:
            return
        end = (state.status, state.outputs, state.error, state.finished_at_ms)
        assert self._ends.setdefault(job.id, end) == end, f"{job.id} ended twice"
        refs = {attempt.ref for attempt in attempts}
        told = {word for ref, run in self._provider.runs.items() if ref in refs for word in run.told}
        match state.status:
            case JobStatus.SUCCEEDED:
                assert "SUCCEEDED" in told
                assert state.outputs[0].url in {OUTPUT.format(ref) for ref in refs}
            case JobStatus.CANCELLED:
                assert job.id in self.wanted_off or "CANCELLED" in told
            case _:
                self._check_failure(job, attempts, told)

    def _check_failure(self, job: Job, attempts: tuple[Attempt, ...], told: set[str]) -> None:
        error = job.state.error
        assert error is not None
        match error.code:
            case "deadline_exceeded":
                assert self._clock.now_ms() >= job.created_at_ms + job.request.deadline_s * 1000
            case "submission_unknown":
                assert any(attempt.doubted_at_ms is not None for attempt in attempts)
                assert job.state.provider_may_bill
            case "provider_lost":
                assert "404" in told
            case _:
                assert "FAILED" in told or any(one.state is AttemptState.REFUSED for one in attempts)

    def check_bills(self, jobs: Jobs) -> None:
        """At the very end: no run was bought that its job does not own up to."""
        for job, attempts in jobs.values():
            assert job.state.status.terminal, f"{job.id} never ended"
            known = {attempt.ref for attempt in attempts}
            for run in self._provider.runs.values():
                if any(attempt.id == run.attempt_id for attempt in attempts):
                    assert run.ref in known or job.state.provider_may_bill, f"{run.ref} is unaccounted for"
