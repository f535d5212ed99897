"""A gateway's life: opened under the lock of its database, started, stopped, closed."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import suppress

from gateway.api.front import Front
from gateway.app.from_settings import tracing_of
from gateway.app.http import build_gateway_api, build_probes
from gateway.app.parts import Parts
from gateway.app.work import start_worker
from gateway.clock import Clock
from gateway.errors import StorageUnavailable
from gateway.registry import Registry
from gateway.routing.plan import room_for
from gateway.service.accounts_needed import refuse_missing
from gateway.settings import Settings
from gateway.storage.store import lock_store
from gateway.telemetry.loop_lag import LoopLag
from gateway.telemetry.tracing import Tracing
from gateway.worker.loop import Worker


class Gateway:
    """A gateway, ready to serve and to work. Whoever makes one closes it.

    Args:
        settings: checked.
        registry: the adapters.
        works: whether this process carries out jobs, besides serving the API.
        clock: the database's time, but for tests.
        spread: random numbers from 0 to 1, for jitter.
        random_bits: for identifiers.
        tracing: makes spans; None: as the settings say.

    Attributes:
        parts: what it is made of.
        asgi: the API.

    Raises:
        SchemaRefused: the database cannot be served, or another process serves it.
        StorageUnavailable: the database server cannot be reached.
        SettingsError: a setting is wrong in a way that only opening shows.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        works: bool = True,
        clock: Clock | None = None,
        spread: Callable[[], float] = random.random,
        random_bits: Callable[[int], int] = secrets.randbits,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings
        self._works = works
        self._worker: Worker | None = None
        self._stopping = False
        tracing = tracing or tracing_of(settings)
        self._lock = lock_store(settings)
        try:
            self.parts = Parts(
                settings,
                registry,
                tracing=tracing,
                clock=clock,
                spread=spread,
                random_bits=random_bits,
                renew=self._renew,
            )
            self.asgi = build_gateway_api(self.parts, self._readiness)
            self._lag = LoopLag(self.parts.store.clock, self.parts.metrics)
        except BaseException:
            self._unlock()
            raise

    def build_probes(self) -> Front:
        """Return an ASGI application of nothing but health and metrics, for a process without the API."""
        return build_probes(self.parts, self._readiness)

    async def check_accounts(self) -> None:
        """See to it that every job under way can be followed.

        Raises:
            SettingsError: the settings lack an account at which jobs are under way.
        """
        refuse_missing(await self.parts.census.needed_accounts(), self.parts.accounts.names())

    def start_measuring(self) -> None:
        """Measure from now on how late the event loop wakes, whatever this process does in it."""
        self._lag.start()

    async def start_worker(self) -> None:
        """Begin to carry out tasks; those that an earlier process left claimed are free at once."""
        parts, alone = self.parts, self._lock is not None
        self._stopping = False
        if alone:
            # The serving lock is ours, so no other worker lives that could hold a lease.
            await parts.leases.release_all()
        # With the serving lock nobody else works here; without it another's settings may be newer than these.
        await parts.dispatch.rehouse(lambda job: room_for(job.request, parts.catalogue), alone=alone)
        self._worker = start_worker(parts, alone=alone)

    async def stop_worker(self) -> None:
        """Be ready no more, and claim no more; let what is under way finish."""
        self._stopping = True
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker.stop()
            with suppress(StorageUnavailable):  # then the last seconds' runs teach nothing
                await self.parts.run_times.renew()

    def hang_up(self) -> None:
        """Answer those who wait, and end all event streams: a server that stops waits for its answers."""
        self._stopping = True
        self.parts.watch.stop()

    async def close(self) -> None:
        """Stop, and let go of everything."""
        await self.stop_worker()
        await self._lag.stop()
        await self.parts.close()
        self._unlock()
        # Last, since it may wait for whoever takes spans.
        await asyncio.to_thread(self.parts.tracing.close)

    async def _readiness(self) -> str | None:
        database = self.parts.store.database
        if self._stopping:  # also where there is no worker
            return "it is stopping"
        if self._works and self._worker is None:
            return "the worker is not running"
        if database.trouble is not None:
            return database.trouble
        try:
            await self.parts.keys.count()
        except StorageUnavailable as error:
            return str(error)
        return None

    async def _renew(self) -> None:
        """Learn what other processes found out: one that carries out nothing would not hear of it."""
        if self._worker is None:
            await self.parts.healths.fresh()
            await self.parts.run_times.fresh()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
