"""One provider's simulated jobs: accepted, on their course, finished. Time comes from the clock alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from gateway.clock import Clock
from providers.contract.emulation import Create, Emulation, Leg, ListJobs, SimulatedFailure, SimulatedJob

OUTPUT_LIFE_S = 24 * 3600
"""What a signed output URL says of its life. Nothing enforces it."""


class Job:
    """A job the provider took on.

    Attributes:
        ref: the provider's name for it.
        request: what it is to do.
        callback_url: where its end is to be reported; empty when nowhere.
        callback_secret: what the report is to prove itself with.
        duration_s: the reference's length in seconds; 0 until it is known.
        film: where the studio keeps its output; None until it is made.
        failure: why it fails, once that is settled.
        cancelled: whether it was cancelled before its end.
        cut_short: whether its failure shows at once, not at the end of its course.
        settled_s: when the last of these was decided, by the monotonic clock; None until then.
    """

    def __init__(
        self, *, ref: str, create: Create, modes: Mapping[str, str], created_ms: int, began_s: float
    ) -> None:
        self.ref, self.request, self.modes = ref, create.request, modes
        self.callback_url, self.callback_secret = create.callback_url, create.callback_secret
        self.created_ms, self.began_s = created_ms, began_s
        self.settled_s: float | None = None
        self.duration_s = 0.0
        self.film: str | None = None
        self.failure: SimulatedFailure | None = None
        self.cancelled = False
        self.cut_short = False


class Jobs:
    """The jobs of one provider.

    Args:
        emulation: whose words are used.
        clock: `monotonic_s` drives the course, `now_ms` dates it.
        run_s: from acceptance to the end, seconds.
        modes: ways of showing jobs that a create call does not decide by itself.
        random_bits: gives that many random bits, for refs and signatures.
        rows_late_s: how much later than it could a job appears in a list, seconds.
    """

    def __init__(
        self,
        emulation: Emulation,
        *,
        clock: Clock,
        run_s: float,
        modes: Mapping[str, str],
        random_bits: Callable[[int], int],
        rows_late_s: float,
    ) -> None:
        self._emulation, self._clock, self._run_s = emulation, clock, run_s
        self._modes = {name: values[0] for name, values in emulation.modes.items()} | dict(modes)
        self._random_bits, self._rows_late_s = random_bits, rows_late_s
        self._jobs: dict[str, Job] = {}

    def accept(self, create: Create) -> Job:
        """Take a job on; its course begins now."""
        job = Job(
            ref=self._emulation.ref_of(f"{self._random_bits(128):032x}"),
            create=create,
            modes={**self._modes, **create.modes},
            created_ms=self._clock.now_ms(),
            began_s=self._clock.monotonic_s(),
        )
        self._jobs[job.ref] = job
        return job

    def find(self, ref: str) -> Job | None:
        """The job of that ref, or None."""
        return self._jobs.get(ref)

    def forget(self, job: Job) -> None:
        """Know the job no longer."""
        self._jobs.pop(job.ref, None)

    def finished(self, job: Job) -> bool:
        """Whether nothing about it changes any more: its time is up and its film, or failure, is there."""
        if job.cancelled or job.cut_short:
            return True
        return self._share(job) >= 1 and (job.film is not None or job.failure is not None)

    def succeeded(self, job: Job) -> bool:
        """Whether it finished with an output."""
        return self.finished(job) and not job.cancelled and job.failure is None

    def settle(self, job: Job) -> None:
        """Note the moment: its film was made or given up, or its failure or cancellation decided."""
        job.settled_s = self._clock.monotonic_s()

    def listed(self, asked: ListJobs) -> list[Job]:
        """The jobs a question is about, newest first, on whichever page; `words` is not looked at."""
        since_ms = asked.since_ms
        if asked.within_s is not None:
            since_ms = self._clock.now_ms() - round(asked.within_s * 1000)
        return [
            job
            for job in reversed(self._jobs.values())
            if (since_ms is None or job.created_ms >= since_ms)
            and (asked.until_ms is None or job.created_ms <= asked.until_ms)
            and self._appears(job, ended_only=asked.ended_only)
        ]

    def show(self, job: Job, public_url: str) -> SimulatedJob:
        """The job at this moment, its output under `public_url` with a signature never used before."""
        word, progress = course_at(self._emulation.course, self._share(job))
        finished, succeeded = self.finished(job), self.succeeded(job)
        if finished:
            word, progress = self._last_word(job), None
        return SimulatedJob(
            ref=job.ref,
            request=job.request,
            word=word,
            created_at=_rfc3339(job.created_ms),
            progress=progress,
            output_url=self._sign(job, public_url) if succeeded else None,
            failure=job.failure if finished and not job.cancelled else None,
            duration_s=job.duration_s,
            credits=round(job.duration_s * self._emulation.credits_per_s),
            modes=job.modes,
        )

    def _appears(self, job: Job, *, ended_only: bool) -> bool:
        at_s = job.began_s
        if ended_only:
            if not self.finished(job):
                return False
            settled_s = at_s if job.settled_s is None else job.settled_s
            at_s = settled_s if job.cancelled or job.cut_short else max(at_s + self._run_s, settled_s)
        return self._clock.monotonic_s() >= at_s + self._rows_late_s

    def _share(self, job: Job) -> float:
        """How much of its course is behind it, 0 to 1."""
        elapsed_s = self._clock.monotonic_s() - job.began_s
        return min(1.0, elapsed_s / self._run_s) if self._run_s > 0 else 1.0

    def _last_word(self, job: Job) -> str:
        if job.cancelled:
            return self._emulation.cancelled_word
        return self._emulation.succeeded_word if job.failure is None else self._emulation.failed_word

    def _sign(self, job: Job, public_url: str) -> str:
        expires_s = self._clock.now_ms() // 1000 + OUTPUT_LIFE_S
        address = f"{public_url}/media/{quote(self._emulation.name, safe='')}/{quote(job.ref, safe='')}.mp4"
        return f"{address}?sig={self._random_bits(128):032x}&exp={expires_s}"


def course_at(course: tuple[Leg, ...], share: float) -> tuple[str, float | None]:
    """The word, and the progress where one is shown, once `share` (0 to 1) of a run has passed.

    Progress rises over all legs that show it, taken together, and stays below 1: the last leg is held for as
    long as the film is not ready. The legs' shares need not add up to 1 exactly.
    """
    whole = sum(leg.share for leg in course)
    shown = sum(leg.share for leg in course if leg.progress)
    left, made = share * whole, 0.0
    for leg in course:
        part = min(left, leg.share)
        made += part if leg.progress else 0.0
        if left < leg.share or leg is course[-1]:
            return leg.word, min(0.99, round(made / shown, 4)) if leg.progress else None
        left -= leg.share
    raise ValueError("a course needs a leg")


def _rfc3339(now_ms: int) -> str:
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
