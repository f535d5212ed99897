"""One emulation, mounted: what happens to a create, a poll, a cancel and a question for the list."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from gateway.simulator.callbacks import Callbacks
from gateway.simulator.faults import SPOILS, Faults, Operation
from gateway.simulator.fetch import UnusableMedia
from gateway.simulator.jobs import Job, Jobs
from gateway.simulator.making import Loaded, Making
from gateway.simulator.spoil import spoil
from gateway.simulator.stats import Stats
from gateway.simulator.wire import Exchange
from providers.contract.emulation import (
    Answer,
    Cancel,
    Create,
    Emulation,
    ListJobs,
    Poll,
    Received,
    Rules,
    WireRequest,
    json_response,
)
from providers.contract.exchange import HttpResponse

UNKNOWN_WORD = "PERCOLATING"
"""What `unknown_status` shows; no provider has it."""

_log = logging.getLogger(__name__)


class Mount:
    """One simulated provider.

    Args:
        emulation: its wire.
        rules: how strict it is.
        jobs: its jobs.
        making: makes their films.
        callbacks: reports their ends; None where none is to be reported.
        faults: what goes wrong; shared by all mounts, as are `stats` and `stopping`.
        stats: counts calls.
        stopping: set when the simulator stops; ends silences.
    """

    def __init__(
        self,
        emulation: Emulation,
        *,
        rules: Rules,
        jobs: Jobs,
        making: Making,
        callbacks: Callbacks | None,
        faults: Faults,
        stats: Stats,
        stopping: asyncio.Event,
    ) -> None:
        self.jobs = jobs
        self._emulation, self._rules, self._making, self._callbacks = emulation, rules, making, callbacks
        self._faults, self._stats, self._stopping = faults, stats, stopping

    async def handle(self, exchange: Exchange, public_url: str) -> None:
        """Answer one call below the mount point."""
        match self._receive(await exchange.read()):
            case Create() as create:
                await self._create(create, exchange, public_url)
            case Poll(ref=ref):
                await self._poll(ref, exchange, public_url)
            case Cancel(ref=ref):
                await self._cancel(ref, exchange, public_url)
            case ListJobs() as asked:
                await self._list(asked, exchange, public_url)
            case Answer(response=response):
                if response.status >= 400:
                    self._stats.refused[self._emulation.name] += 1
                await exchange.answer(response)

    def film(self, ref: str) -> bytes | None:
        """The output of a job that succeeded, an MP4."""
        job = self.jobs.find(ref)
        return None if job is None or not self.jobs.succeeded(job) else self._making.film(job)

    async def stop(self) -> None:
        """Give up the jobs under way."""
        if self._callbacks is not None:
            await self._callbacks.stop()
        await self._making.stop()

    def _receive(self, wire: WireRequest) -> Received:
        try:
            return self._emulation.receive(wire, self._rules)
        except Exception:  # noqa: BLE001 - garbage gets a refusal, however unforeseen the garbage
            _log.warning("the emulation of %s cannot read a request", self._emulation.name, exc_info=True)
            return Answer(response=json_response(400, {"error": "The request cannot be read."}))

    async def _create(self, create: Create, exchange: Exchange, public_url: str) -> None:
        emulation, url = self._emulation, create.request.character.url
        loaded: Loaded | None = None
        if emulation.refuse_asset is not None:
            try:
                loaded = await self._making.load(create.request)
            except UnusableMedia as problem:
                await self._refuse(emulation.refuse_asset(problem.option, problem.reason), exchange)
                return
        fault = self._faults.take(emulation.name, "create", url, fits=lambda _: True)
        kind, _, code = (fault or "").partition(":")
        if kind == "refuse":
            await self._refuse(emulation.refusals[code], exchange)
            return
        job = self.jobs.accept(create)
        self._stats.count_accepted(emulation.name, url)
        if loaded is not None:
            job.duration_s = loaded.duration_s
        if kind == "fail":
            job.failure = emulation.failures[code]
        else:
            self._making.begin(job, loaded)
        if self._callbacks is not None:
            self._callbacks.begin(job, public_url)
        await self._answer(fault, emulation.show_created(self.jobs.show(job, public_url)), exchange)

    async def _poll(self, ref: str, exchange: Exchange, public_url: str) -> None:
        emulation = self._emulation
        self._stats.polls[emulation.name] += 1
        job = self.jobs.find(ref)
        if job is None:
            await exchange.answer(emulation.show_missing())
            return
        fault = self._take(job, "poll")
        kind, _, code = (fault or "").partition(":")
        if kind == "fail":
            self._making.give_up(job)
            job.failure, job.cut_short = emulation.failures[code], True
            self.jobs.settle(job)
        shown = self.jobs.show(job, public_url)
        if fault == "unknown_status":
            shown = msgspec.structs.replace(shown, word=UNKNOWN_WORD)
        elif fault == "success_without_url":
            shown = msgspec.structs.replace(shown, output_url=None)
        await self._answer(fault, emulation.show_job(shown), exchange)

    async def _cancel(self, ref: str, exchange: Exchange, public_url: str) -> None:
        emulation = self._emulation
        self._stats.cancels[emulation.name] += 1
        job = self.jobs.find(ref)
        if job is None or emulation.show_cancelled is None:
            await exchange.answer(emulation.show_missing())
            return
        fault = self._take(job, "cancel")
        if not self.jobs.finished(job):
            job.cancelled = True
            self._making.give_up(job)
            self.jobs.settle(job)
        if emulation.forgets_cancelled:
            self.jobs.forget(job)
        await self._answer(fault, emulation.show_cancelled(self.jobs.show(job, public_url)), exchange)

    async def _list(self, asked: ListJobs, exchange: Exchange, public_url: str) -> None:
        emulation = self._emulation
        self._stats.lists[emulation.name] += 1
        if emulation.show_listing is None:
            await exchange.answer(emulation.show_missing())
            return
        fault = self._faults.take(emulation.name, "list", "", fits=lambda _: True)
        jobs = [] if fault == "no_rows" else self.jobs.listed(asked)
        if asked.words is not None:
            jobs = [job for job in jobs if self.jobs.show(job, public_url).word in asked.words]
        page = jobs[asked.offset : asked.offset + asked.limit]
        shown = tuple(self.jobs.show(job, public_url) for job in page)
        await self._answer(fault, emulation.show_listing(shown, asked, len(jobs)), exchange)

    def _take(self, job: Job, operation: Operation) -> str | None:
        def fits(fault: str) -> bool:
            if fault == "success_without_url":
                return self.jobs.succeeded(job)
            return not (fault.startswith("fail:") and self.jobs.finished(job))

        return self._faults.take(self._emulation.name, operation, job.request.character.url, fits=fits)

    async def _refuse(self, response: HttpResponse, exchange: Exchange) -> None:
        self._stats.refused[self._emulation.name] += 1
        await exchange.answer(response)

    async def _answer(self, fault: str | None, response: HttpResponse, exchange: Exchange) -> None:
        if fault in SPOILS:
            await spoil(fault, response, exchange, stopping=self._stopping)
        else:
            await exchange.answer(response)
