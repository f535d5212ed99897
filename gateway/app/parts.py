"""Everything that serves and works, built once for a process and put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version

from gateway.api.openapi import OPERATIONS
from gateway.app.from_settings import (
    catalogue_of,
    failover_rules,
    health_terms,
    media_policy,
    receiver_policy,
)
from gateway.clock import Clock
from gateway.console.routes import PATHS
from gateway.ids import Ids
from gateway.registry import Registry
from gateway.routing.conditions import Conditions
from gateway.routing.routes import JobRoutes
from gateway.service.adoption import Adoptions
from gateway.service.announce import Announcer
from gateway.service.callbacks import CallbackKeys, Callbacks
from gateway.service.census import Census
from gateway.service.deliveries import Deliveries
from gateway.service.dispatch import Dispatch
from gateway.service.endpoints import Endpoints
from gateway.service.health import Healths
from gateway.service.holds import Holds
from gateway.service.intake import Intake
from gateway.service.jobs import Jobs
from gateway.service.keys import Keys
from gateway.service.leases import Leases
from gateway.service.outbox import Outbox
from gateway.service.pings import Pings, open_ping_sender
from gateway.service.plans import Planner
from gateway.service.quotas import Quotas
from gateway.service.record import Record
from gateway.service.recovery import Recovery
from gateway.service.run_times import RunTimes
from gateway.service.story import Stories
from gateway.service.throttle import Throttle
from gateway.service.wakeup import Wakeup
from gateway.service.watch import Places, Watch
from gateway.settings import Settings
from gateway.settings.rates import parse_rate
from gateway.storage.store import open_store
from gateway.telemetry import Metrics, Redactor
from gateway.telemetry.tracing import Tracing
from gateway.upstream.accounts import accounts_of
from gateway.upstream.calls import Calls
from gateway.upstream.client import Client, open_upstream
from gateway.webhooks.sending import open_sender
from gateway.worker.tools import Tools


class Parts:
    """What a gateway is made of. Whoever makes it closes it.

    Args:
        settings: checked.
        registry: the adapters.
        tracing: makes spans.
        clock: the database's time, but for tests.
        spread: random numbers from 0 to 1, for jitter.
        random_bits: for identifiers.
        renew: learns what other processes found out, before a job is planned.

    Raises:
        SchemaRefused: the database cannot be served.
        StorageUnavailable: the database server cannot be reached.
        SettingsError: a setting is wrong in a way that only opening shows.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        tracing: Tracing,
        clock: Clock | None,
        spread: Callable[[], float],
        random_bits: Callable[[int], int],
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        self.settings, self.tracing, self.spread, self.renew = settings, tracing, spread, renew
        self.receivers, self.media = receiver_policy(settings), media_policy(settings)
        self.metrics = Metrics(
            version=version("motion-gateway"),
            providers=[spec.name for spec in registry.specs],
            models={model.name for spec in registry.specs for model in spec.models},
            routes={operation.path for operation in OPERATIONS} | PATHS,
        )
        self.store = open_store(
            settings,
            on_commit=self._committed,
            on_refused=self.metrics.storage_refused.inc,
            clock=clock,
            serving=True,
        )
        self.metrics.watch_storage(lambda: self.store.database.trouble)
        database, sealer, clock = self.store.database, self.store.sealer, self.store.clock
        self.ids = Ids(clock, random_bits)
        self.wakeup = Wakeup()
        self.watch = Watch(
            database,
            clock,
            Places(all=settings.server.watchers_max, per_owner=settings.server.watchers_per_owner),
            on_count=self.metrics.set_watchers,
            on_denied=self.metrics.rate_limited,
            spread=spread,
        )
        self.stories = Stories(database)
        announcer = Announcer(self.metrics, self.wakeup, self.watch.moved, lambda: self.dispatch.submits_wait)
        self.accounts = accounts_of(settings, registry.adapters)
        self.catalogue = catalogue_of(registry, self.accounts, settings)
        record = Record(database, clock, self.ids, announcer)
        self.keys = Keys(database, clock, self.ids, sealer)
        self.healths = Healths(database, clock, health_terms(self.accounts, self.store.secret))
        polls = {name: provider.polls_per_job for name, provider in settings.providers.items()}
        self.run_times = RunTimes(database, clock, polls_per_job=polls)
        self.routes = JobRoutes(
            catalogue=self.catalogue, rules=failover_rules(settings), conditions=self._conditions
        )
        self.planner = Planner(self.routes, self.accounts)
        limits = settings.limits
        rate = None if limits.rate is None else parse_rate(limits.rate)
        self.throttle = Throttle(database, clock, default=rate)
        self.intake = Intake(
            database,
            clock,
            self.ids,
            sealer,
            planner=self.planner,
            on_accepted=announcer.accepted,
            quotas=Quotas(max_in_flight=limits.max_in_flight, max_queued=limits.max_queued),
            on_denied=self.metrics.rate_limited,
            spread=spread,
            renew=renew,
        )
        self.jobs = Jobs(database, clock, record)
        self.upstream = open_upstream()
        self.sender = open_sender(settings.webhooks)
        self.endpoints = Endpoints(
            database,
            clock,
            self.ids,
            sealer,
            receivers=self.receivers,
            on_disabled=self.metrics.endpoint_disabled,
            wake=self.wakeup.wake,
        )
        self.deliveries = Deliveries(database, clock, self.wakeup.wake)
        self.recovery = Recovery(database, clock, self.wakeup.wake)
        self.ping_sender = open_ping_sender(settings.webhooks)
        self.pings = Pings(clock, self.ids, sealer, self.ping_sender, self.metrics.webhook_attempt)
        # The name is in tasks.leased_by: who has what, and who had it.
        self.name = self.ids.new("wrk")
        self.leases = Leases(database, clock, holder=self.name, lease_s=settings.worker.lease_s)
        self.dispatch = Dispatch(self.leases, self.healths)
        self.census = Census(database, clock)
        redactor = Redactor(settings.secrets())
        callback_keys = CallbackKeys(settings.server.public_url, self.store.secret)
        self.calls = Calls(
            Client(self.upstream),
            clock,
            redactor.text,
            self.metrics.provider_request,
            callback_of=callback_keys.callback_of,
            tracing=tracing,
        )
        self.holds = Holds(database, record, clock, accounts=self.accounts, calls=self.calls)
        self.adoptions = Adoptions(database, record, clock)
        self.callbacks = Callbacks(
            database,
            clock,
            registry,
            callback_keys,
            self.wakeup,
            redact=redactor.text,
            on_call=self.metrics.callback,
        )
        self.tools = Tools(
            record=record,
            leases=self.leases,
            outbox=Outbox(self.leases),
            census=self.census,
            healths=self.healths,
            calls=self.calls,
            accounts=self.accounts,
            clock=clock,
            ids=self.ids,
            metrics=self.metrics,
            run_times=self.run_times,
            spread=spread,
            tracing=tracing,
        )

    async def close(self) -> None:
        """Let go of connections and of the database."""
        await self.watch.close()
        await self.upstream.aclose()
        await self.sender.aclose()
        await self.ping_sender.aclose()
        await self.store.database.close()

    def _conditions(self, model: str) -> Conditions:
        def run_s(account: tuple[str, str]) -> float | None:
            found = self.accounts.get(*account)
            simulated = found is not None and found.simulated
            return self.run_times.median_s(account[0], model, simulated=simulated)

        return self.healths.conditions(run_s)

    def _committed(self, seconds: float, operations: int) -> None:
        self.metrics.storage_commit_seconds.observe(seconds)
        self.metrics.storage_batch_size.observe(operations)
