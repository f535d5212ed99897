"""From a job to its film: tasks that get the inputs and have them rendered, or settle why the job fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec import Struct

from gateway.simulator.fetch import UnusableMedia
from gateway.simulator.jobs import Job
from gateway.simulator.media import Inputs, Media
from gateway.simulator.studio import Studio
from providers.contract.emulation import Emulation, SimulatedFailure
from providers.contract.motion import MotionRequest

_log = logging.getLogger(__name__)


class Loaded(Struct, frozen=True):
    """Inputs that were got and measured."""

    inputs: Inputs
    duration_s: float
    """Of the reference."""


class Making:
    """The films of one provider's jobs.

    Args:
        emulation: names the provider in the films, and failures in its words.
        media: gets inputs.
        studio: renders; shared by all providers.
        settled: told about each job whose film is made, or will not be.
    """

    def __init__(
        self, emulation: Emulation, *, media: Media, studio: Studio, settled: Callable[[Job], None]
    ) -> None:
        self._emulation, self._media, self._studio, self._settled = emulation, media, studio, settled
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def load(self, request: MotionRequest) -> Loaded:
        """Get and measure a request's inputs.

        Raises:
            UnusableMedia: one cannot be got or decoded, or the reference is too short or too long.
        """
        inputs = await self._media.load(request)
        return Loaded(inputs, await self._studio.measure(inputs))

    def begin(self, job: Job, loaded: Loaded | None) -> None:
        """Begin to make a job's film, from inputs that were loaded before or are to be loaded now."""
        self._tasks[job.ref] = task = asyncio.create_task(self._make(job, loaded))
        task.add_done_callback(lambda _: self._tasks.pop(job.ref, None))

    def give_up(self, job: Job) -> None:
        """Make it no longer."""
        if (task := self._tasks.get(job.ref)) is not None:
            task.cancel()

    def film(self, job: Job) -> bytes | None:
        """A job's film, an MP4; None when it is not made, or lapsed."""
        return None if job.film is None else self._studio.film(job.film)

    async def stop(self) -> None:
        """Give up all that is under way."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, job: Job, loaded: Loaded | None) -> None:
        """Make the film, or settle why there is none."""
        name = self._emulation.name
        try:
            loaded = loaded or await self.load(job.request)
            job.duration_s = loaded.duration_s
            label = f"{name}, stand-in media" if loaded.inputs.stand_in else name
            job.film = await self._studio.shoot(loaded.inputs, job.request.ratio, label)
        except UnusableMedia as problem:
            job.failure = self._failure("invalid_media", str(problem))
        except Exception:  # noqa: BLE001 - the job must end, whatever its inputs did to a decoder
            _log.exception("the simulated job %s of %s has no film", job.ref, name)
            job.failure = self._failure("provider_error", "The film could not be made.")
        self._settled(job)

    def _failure(self, code: str, message: str) -> SimulatedFailure:
        return self._emulation.failures.get(code) or SimulatedFailure(code=code, message=message)
