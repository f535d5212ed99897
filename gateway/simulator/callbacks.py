"""Reporting the ends of one provider's jobs to the URLs they were submitted with, on loopback only."""

from __future__ import annotations

import asyncio
import logging

import httpx

from gateway.simulator.faults import Faults
from gateway.simulator.fetch import is_loopback
from gateway.simulator.jobs import Job, Jobs
from gateway.simulator.stats import Stats
from providers.contract.emulation import CallbackMessage, Emulation

TRIES = 3
TRY_S = 10.0
LOOK_S = 0.02
"""How often a job is looked at for its end: the clock that drives it may be a test's."""

_log = logging.getLogger(__name__)


class Callbacks:
    """The callbacks of one provider.

    Args:
        emulation: says whether it calls back, and what.
        jobs: its jobs.
        faults: what goes wrong: `lost`, `twice`, `forged`.
        stats: counts what was sent.
        pause_s: between two tries, seconds.
    """

    def __init__(
        self, emulation: Emulation, *, jobs: Jobs, faults: Faults, stats: Stats, pause_s: float
    ) -> None:
        self._emulation, self._jobs, self._faults, self._stats = emulation, jobs, faults, stats
        self._pause_s = pause_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    def begin(self, job: Job, public_url: str) -> None:
        """Report the job's end once it is there, if it wants that and the provider does that."""
        if self._emulation.show_callback is None or not job.callback_url:
            return
        task = asyncio.create_task(self._report(job, public_url))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Report nothing any more."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _report(self, job: Job, public_url: str) -> None:
        show, url = self._emulation.show_callback, _dialable(job.callback_url)
        if show is None or url is None:
            _log.warning("the end of %s is reported to nobody: its URL is not on loopback", job.ref)
            return
        while not self._jobs.finished(job):  # noqa: ASYNC110 - no event says that a test's clock was moved
            await asyncio.sleep(LOOK_S)
        if job.cancelled:
            return
        name = self._emulation.name
        fault = self._faults.take(name, "callback", job.request.character.url, fits=lambda _: True)
        secret = f"not-{job.callback_secret}" if fault == "forged" else job.callback_secret
        message = show(self._jobs.show(job, public_url), secret)
        for _ in range({"lost": 0, "twice": 2}.get(fault or "", 1)):
            await self._send(url, message)

    async def _send(self, url: httpx.URL, message: CallbackMessage) -> None:
        """Post until it is acknowledged, three times at most."""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(self._pause_s)
            self._stats.callbacks[self._emulation.name] += 1
            if await self._acknowledged(url, message):
                return
        _log.warning("a callback of %s was never acknowledged", self._emulation.name)

    async def _acknowledged(self, url: httpx.URL, message: CallbackMessage) -> bool:
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=TRY_S)
        headers = dict(message.headers)
        try:
            async with self._client.stream("POST", url, headers=headers, content=message.body) as response:
                return response.is_success
        except httpx.HTTPError as error:
            _log.info("a callback of %s did not arrive: %s", self._emulation.name, type(error).__name__)
            return False


def _dialable(url: str) -> httpx.URL | None:
    """The URL as httpx will dial it, if that is this machine."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    return parsed if parsed.scheme in {"http", "https"} and is_loopback(parsed.host) else None
