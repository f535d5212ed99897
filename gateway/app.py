"""The composition root: the one place that knows how the parts fit. Whoever makes a `Gateway` closes it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version

from gateway.api.asgi import Routes, build_api
from gateway.api.auth import Doorkeeper
from gateway.api.callbacks import CallbackDesk, callback_routes
from gateway.api.deliveries import delivery_routes
from gateway.api.endpoints import EndpointDesk, endpoint_routes
from gateway.api.front import Front
from gateway.api.jobs import JobDesk, job_routes
from gateway.api.openapi import OPERATIONS, build_openapi
from gateway.api.ops import OpsDesk, probe_routes, reader_routes
from gateway.api.plans import plan_routes
from gateway.api.providers import provider_routes
from gateway.api.request_body import BodyLimits
from gateway.api.semantics import Terms
from gateway.api.streams import StreamDesk
from gateway.api.usage import usage_routes
from gateway.clock import Clock
from gateway.console.desk import ConsoleDesk
from gateway.console.entrance import POLICY, TOO_MANY, TRIES, Entrance
from gateway.console.pages import Pages
from gateway.console.routes import PATHS, console_routes
from gateway.console.session import Sessions
from gateway.console.words import origin_of
from gateway.errors import SettingsError, StorageUnavailable
from gateway.ids import Ids
from gateway.jobs.transitions import TaskKind
from gateway.net import DialPolicy, GuardedTransport, parse_policy
from gateway.registry import Registry
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.conditions import Conditions
from gateway.routing.failover import Rules
from gateway.routing.plan import room_for
from gateway.routing.routes import JobRoutes
from gateway.service.accounts_needed import refuse_missing
from gateway.service.adoption import Adoptions
from gateway.service.announce import Announcer
from gateway.service.callbacks import CallbackKeys, Callbacks
from gateway.service.census import Census
from gateway.service.deliveries import Deliveries
from gateway.service.dispatch import FOLLOW_KINDS, LOOK_KINDS, SUBMIT_KINDS, Dispatch, JobTask
from gateway.service.endpoints import Endpoints
from gateway.service.health import Healths
from gateway.service.health import Terms as HealthTerms
from gateway.service.holds import Holds
from gateway.service.inflow import Inflow
from gateway.service.intake import Intake
from gateway.service.jobs import Jobs
from gateway.service.keys import Keys
from gateway.service.leases import Leases
from gateway.service.outbox import DeliveryTask, Outbox
from gateway.service.pings import Pings, open_ping_sender
from gateway.service.plans import Planner
from gateway.service.quotas import Quotas
from gateway.service.record import Record
from gateway.service.run_times import RunTimes
from gateway.service.story import Stories
from gateway.service.throttle import Throttle
from gateway.service.tries import Tries
from gateway.service.usage import Usage
from gateway.service.wakeup import Wakeup
from gateway.service.watch import Places, Watch
from gateway.settings import Settings
from gateway.settings.rates import parse_rate
from gateway.storage.store import lock_store, open_store
from gateway.telemetry import Metrics, Redactor, get_logger
from gateway.telemetry.tracing import Tracing, Untraced
from gateway.upstream.accounts import Accounts, accounts_of
from gateway.upstream.calls import Calls
from gateway.upstream.client import Client
from gateway.webhooks.sending import open_sender
from gateway.worker.cancel import Cancel
from gateway.worker.deliver import WAITING_ROOM, Deliver
from gateway.worker.loop import GATHER_S, Lane, Worker
from gateway.worker.poll import Poll
from gateway.worker.reconcile import Reconcile
from gateway.worker.submit import Submit
from gateway.worker.sweep import Sweep
from gateway.worker.tools import Tools

_log = get_logger("gateway.worker")

MEASURE_S = 2.0
STOCK_S = 15.0
LEARN_S = 3.0
CONNECTIONS = 256
LOOKS_AT_ONCE = 8
"""For lost submissions: each asks its provider for long lists."""


def receiver_policy(settings: Settings) -> DialPolicy:
    """Return which webhook receivers may be dialled.

    Raises:
        SettingsError: an entry is of a form that only the dialler refuses.
    """
    webhooks = settings.webhooks
    try:
        return parse_policy(
            allowed_networks=webhooks.allowed_networks,
            allowed_hosts=webhooks.allowed_hosts,
            allow_http=webhooks.allow_http,
        )
    except ValueError as error:
        raise SettingsError(f"setting webhooks.{error}") from error


def media_policy(settings: Settings) -> DialPolicy:
    """Return which media URLs are taken; raises like `receiver_policy`."""
    media = settings.media
    try:
        return parse_policy(allowed_networks=media.allowed_networks, allow_http=media.allow_http)
    except ValueError as error:
        raise SettingsError(f"setting media.{error}") from error


def tracing_of(settings: Settings) -> Tracing:
    """Return what makes spans.

    Raises:
        SettingsError: the extra that sends them is not installed.
    """
    if not settings.tracing.enabled:
        return Untraced()
    try:
        from gateway.telemetry.otel import OtelTracing  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        reason = f"setting tracing.enabled needs what is not installed ({error.name})"
        raise SettingsError(f"{reason}; install it: pip install 'motion-gateway[otel]'") from error
    return OtelTracing(version=version("motion-gateway"))


def open_upstream() -> GuardedTransport:
    """Return what providers are dialled with; base URLs are the operator's own, so nothing is refused."""
    return GuardedTransport(None, deadline_s=60.0, limit=CONNECTIONS)


class Gateway:
    """A gateway, ready to serve and to work.

    Args:
        settings: checked.
        registry: the adapters.
        works: whether this process carries out jobs, besides serving the API.
        clock: the database's time, but for tests.
        spread: random numbers from 0 to 1, for jitter.
        random_bits: for identifiers.
        tracing: makes spans; None: as the settings say.

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
        self._tracing = tracing or tracing_of(settings)
        self._registry = registry
        self._works = works
        self._lock = lock_store(settings)
        try:
            self._assemble(clock, spread, random_bits)
        except BaseException:
            self._unlock()
            raise

    def _assemble(
        self, clock: Clock | None, spread: Callable[[], float], random_bits: Callable[[int], int]
    ) -> None:
        settings = self.settings
        self.receivers, self.media = receiver_policy(settings), media_policy(settings)
        self.metrics = Metrics(
            version=version("motion-gateway"),
            providers=[spec.name for spec in self._registry.specs],
            models={model.name for spec in self._registry.specs for model in spec.models},
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
        ids = self._ids = Ids(clock, random_bits)
        self._wakeup = Wakeup()
        self._watch = Watch(
            database,
            clock,
            Places(all=settings.server.watchers_max, per_owner=settings.server.watchers_per_owner),
            on_count=self.metrics.set_watchers,
            on_denied=self.metrics.rate_limited,
            spread=spread,
        )
        self._stories = Stories(database)
        announcer = Announcer(self.metrics, self._wakeup, self._watch.moved)
        self.accounts = accounts_of(settings, self._registry.adapters)
        self.catalogue = catalogue_of(self._registry, self.accounts, settings)
        record = Record(database, clock, ids, announcer)
        self.keys = Keys(database, clock, ids, sealer)
        self._healths = Healths(database, clock, _terms_of(self.accounts, self.store.secret))
        self.routes = JobRoutes(
            catalogue=self.catalogue,
            rules=failover_rules(settings),
            conditions=self._conditions,
        )
        self._planner = Planner(self.routes, self.accounts)
        limits, self._spread = settings.limits, spread
        rate = None if limits.rate is None else parse_rate(limits.rate)
        self._throttle = Throttle(database, clock, default=rate)
        self._intake = Intake(
            database,
            clock,
            ids,
            sealer,
            planner=self._planner,
            on_accepted=announcer.accepted,
            quotas=Quotas(max_in_flight=limits.max_in_flight, max_queued=limits.max_queued),
            on_denied=self.metrics.rate_limited,
            spread=spread,
            renew=self._renew,
        )
        self._jobs = Jobs(database, clock, record)
        polls = {name: provider.polls_per_job for name, provider in settings.providers.items()}
        self.run_times = RunTimes(database, clock, polls_per_job=polls)
        self._upstream = open_upstream()
        self._sender = open_sender(settings.webhooks)
        self.endpoints = Endpoints(
            database,
            clock,
            ids,
            sealer,
            receivers=self.receivers,
            on_disabled=self.metrics.endpoint_disabled,
            wake=self._wakeup.wake,
        )
        self._deliveries = Deliveries(database, clock, self._wakeup.wake)
        self._ping_sender = open_ping_sender(settings.webhooks)
        self.pings = Pings(clock, ids, sealer, self._ping_sender, self.metrics.webhook_attempt)
        self._name = ids.new("wrk")
        self._leases = Leases(database, clock, holder=self._name, lease_s=settings.worker.lease_s)
        self._dispatch = Dispatch(self._leases, self._healths)
        self._census = Census(database, clock)
        redactor = Redactor(settings.secrets())
        callback_keys = CallbackKeys(settings.server.public_url, self.store.secret)
        calls = Calls(
            Client(self._upstream),
            clock,
            redactor.text,
            self.metrics.provider_request,
            callback_of=callback_keys.callback_of,
            tracing=self._tracing,
        )
        self.calls = calls
        self._holds = Holds(database, record, clock, accounts=self.accounts, calls=calls)
        self._adoptions = Adoptions(database, record, clock)
        self._callbacks = Callbacks(
            database,
            clock,
            self._registry,
            callback_keys,
            self._wakeup,
            redact=redactor.text,
            on_call=self.metrics.callback,
        )
        self._tools = Tools(
            record=record,
            leases=self._leases,
            outbox=Outbox(self._leases),
            census=self._census,
            healths=self._healths,
            calls=calls,
            accounts=self.accounts,
            clock=clock,
            ids=ids,
            metrics=self.metrics,
            run_times=self.run_times,
            spread=spread,
            tracing=self._tracing,
        )
        self._worker: Worker | None = None
        self._stopping = False
        self.asgi = self._build_api()

    async def _renew(self) -> None:
        """Learn what other processes found out: one that carries out nothing would not hear of it."""
        if self._worker is None:
            await self._healths.fresh()
            await self.run_times.fresh()

    def _conditions(self, model: str) -> Conditions:
        def run_s(account: tuple[str, str]) -> float | None:
            found = self.accounts.get(*account)
            simulated = found is not None and found.simulated
            return self.run_times.median_s(account[0], model, simulated=simulated)

        return self._healths.conditions(run_s)

    def build_probes(self) -> Front:
        """Return an ASGI application of nothing but health and metrics, for a process without the API."""
        routes = probe_routes(self._ops_desk(self._doorkeeper()))
        return build_api(routes, ids=Ids(self.store.clock, random.getrandbits), metrics=self.metrics)

    def _ops_desk(self, door: Doorkeeper) -> OpsDesk:
        return OpsDesk(
            door=door,
            metrics=self.metrics,
            metrics_open=self.settings.metrics.open,
            ready=self._readiness,
            openapi=build_openapi(),
        )

    def _doorkeeper(self) -> Doorkeeper:
        return Doorkeeper(
            self.keys,
            required=self.settings.auth.required,
            throttle=self._throttle,
            on_denied=self.metrics.rate_limited,
            spread=self._spread,
        )

    def _build_api(self) -> Front:
        settings = self.settings
        door = self._doorkeeper()
        body = BodyLimits(max_bytes=settings.server.body_max_bytes, timeout_s=settings.server.body_timeout_s)
        cursor_key = hashlib.sha256(b"cursors\0" + self.store.secret.encode()).digest()
        desk = JobDesk(
            intake=self._intake,
            jobs=self._jobs,
            holds=self._holds,
            door=door,
            terms=self._terms(),
            body=body,
            cursor_key=cursor_key,
            watch=self._watch,
            streams=StreamDesk(
                watch=self._watch,
                stories=self._stories,
                clock=self.store.clock,
                spread=self._spread,
            ),
            tracing=self._tracing,
        )
        ops = self._ops_desk(door)
        routes: list[Routes] = [
            job_routes(desk),
            plan_routes(desk, self._planner, self._ids, self._renew),
            *callback_routes(
                CallbackDesk(callbacks=self._callbacks, body_timeout_s=settings.server.body_timeout_s)
            ),
            provider_routes(self.catalogue, door, self._healths),
            endpoint_routes(
                EndpointDesk(
                    endpoints=self.endpoints,
                    deliveries=self._deliveries,
                    pings=self.pings,
                    door=door,
                    body=body,
                    cursor_key=cursor_key,
                )
            ),
            *delivery_routes(self._deliveries, door, cursor_key),
            usage_routes(Usage(self.store.database, self.store.clock), door),
            *probe_routes(ops),
            *reader_routes(ops),
            console_routes(self._console(door, cursor_key)),
        ]
        # A request's id guards nothing, so its randomness need not come from the operating system.
        return build_api(routes, ids=Ids(self.store.clock, random.getrandbits), metrics=self.metrics)

    def _console(self, door: Doorkeeper, cursor_key: bytes) -> ConsoleDesk:
        settings, clock = self.settings, self.store.clock
        # Whatever is on https, and the simulators and stand-ins that accounts may be pointed at on loopback.
        plain = {origin_of(account.base_url) for account in self.accounts.all() if account.plain_http}
        return ConsoleDesk(
            entrance=Entrance(
                keys=self.keys,
                door=door,
                sessions=Sessions(self.store.secret, clock),
                tries=Inflow(clock, TRIES, policy=POLICY, too_many=TOO_MANY),
                required=settings.auth.required,
                server=settings.server,
            ),
            pages=Pages(clock, version=version("motion-gateway")),
            jobs=self._jobs,
            holds=self._holds,
            deliveries=self._deliveries,
            endpoints=self.endpoints,
            healths=self._healths,
            tries=Tries(self.store.database, clock),
            census=self._census,
            catalogue=self.catalogue,
            cursor_key=cursor_key,
            media=frozenset({"https:", *(one for one in plain if one is not None)}),
        )

    def _terms(self) -> Terms:
        return Terms(
            models=self.catalogue.models,
            providers=self.catalogue.providers,
            media=self.media,
            receivers=self.receivers,
            deadline_s=self.settings.jobs.deadline_s,
            on_unknown_submission=self.settings.jobs.on_unknown_submission,
            policy=self.settings.routing.policy,
            failover=self.settings.routing.failover,
        )

    async def check_accounts(self) -> None:
        """See to it that every job under way can be followed.

        Raises:
            SettingsError: the settings lack an account at which jobs are under way.
        """
        refuse_missing(await self._census.needed_accounts(), self.accounts.names())

    async def start_worker(self) -> None:
        """Begin to carry out tasks; those that an earlier process left claimed are free at once."""
        settings, tools, dispatch = self.settings.worker, self._tools, self._dispatch
        self._stopping = False
        if self._lock is not None:
            # The serving lock is ours, so no other worker lives that could hold a lease.
            await self._leases.release_all()
        # With the serving lock nobody else works here; without it another's settings may be newer than these.
        await dispatch.rehouse(
            lambda job: room_for(job.request, self.catalogue), alone=self._lock is not None
        )
        steps: dict[TaskKind, Callable[[JobTask], Awaitable[None]]] = {
            TaskKind.SUBMIT: Submit(tools, self.routes, hold_s=self.settings.jobs.hold_s),
            TaskKind.POLL: Poll(tools, self.routes),
            TaskKind.RECONCILE: Reconcile(tools, self._adoptions),
            TaskKind.CANCEL: Cancel(tools),
        }

        async def carry_out(task: JobTask) -> None:
            about = {"motion_gateway.job_id": task.job.id}
            with self._tracing.span(task.claim.kind, "internal", about, parent=task.job.traceparent):
                await steps[task.claim.kind](task)

        # Lanes of their own: neither creates that hang nor a thousand looks for lost submissions keep the
        # results of paid work waiting.
        lanes: list[Lane[JobTask]] = [
            Lane(
                most,
                partial(dispatch.claim, kinds=kinds),
                carry_out,
                partial(dispatch.next_due_ms, kinds),
                gather_s=gather_s,
            )
            for kinds, most, gather_s in (
                (SUBMIT_KINDS, settings.concurrency, 0.0),
                (FOLLOW_KINDS, settings.concurrency, GATHER_S),
                (LOOK_KINDS, min(LOOKS_AT_ONCE, settings.concurrency), 0.0),
            )
        ]
        deliver = Deliver(tools, self._sender, self.store.sealer, self.settings.webhooks)
        deliveries: Lane[DeliveryTask] = Lane(
            # Some of them only wait a moment for a lane that has its fill; the sender counts those under way.
            WAITING_ROOM * self.settings.webhooks.concurrency,
            deliver.claim,
            deliver.carry_out,
            deliver.next_due_ms,
            looks_after_each=True,
        )
        sweep = Sweep(tools)
        worker = Worker(
            self._leases,
            self.store.clock,
            self.metrics,
            self._wakeup.subscribe,
            heartbeat_s=settings.heartbeat_s,
            idle_s=settings.idle_s,
            stop_s=settings.stop_s,
            sole_worker=self._lock is not None,
            on_jump=sweep.clock_jumped,
        )
        # The name is in tasks.leased_by: who has what, and who had it.
        _log.info("worker.started", worker=self._name, lease_s=settings.lease_s)
        worker.start(
            [*lanes, deliveries],
            [
                (settings.idle_s, sweep),
                (MEASURE_S, sweep.measure),
                (STOCK_S, sweep.take_stock),
                (LEARN_S, self.run_times.renew),
            ],
        )
        self._worker = worker

    async def stop_worker(self) -> None:
        """Be ready no more, and claim no more; let what is under way finish."""
        self._stopping = True
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker.stop()
            with suppress(StorageUnavailable):  # then the last seconds' runs teach nothing
                await self.run_times.renew()

    def hang_up(self) -> None:
        """Answer those who wait, and end all event streams: a server that stops waits for its answers."""
        self._stopping = True
        self._watch.stop()

    async def close(self) -> None:
        """Stop, and let go of everything."""
        await self.stop_worker()
        await self._watch.close()
        await self._upstream.aclose()
        await self._sender.aclose()
        await self._ping_sender.aclose()
        await self.store.database.close()
        self._unlock()
        await asyncio.to_thread(self._tracing.close)  # last, since it may wait for whoever takes spans

    async def _readiness(self) -> str | None:
        if self._stopping:  # also where there is no worker
            return "it is stopping"
        if self._works and self._worker is None:
            return "the worker is not running"
        if self.store.database.trouble is not None:
            return self.store.database.trouble
        try:
            await self.keys.count()
        except StorageUnavailable as error:
            return str(error)
        return None

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _committed(self, seconds: float, operations: int) -> None:
        self.metrics.storage_commit_seconds.observe(seconds)
        self.metrics.storage_batch_size.observe(operations)


def _terms_of(accounts: Accounts, secret: str) -> dict[tuple[str, str], HealthTerms]:
    def fingerprint(key: str) -> str:
        return hmac.new(b"accounts\0" + secret.encode(), key.encode(), hashlib.sha256).hexdigest()[:16]

    return {
        account.id: HealthTerms(
            limits=account.limits,
            weight=account.weight,
            longest_run_ms=(account.longest_run_s or account.adapter.spec.longest_run_s) * 1000,
            key=fingerprint(account.api_key.reveal()),
        )
        for account in accounts.all()
    }


def failover_rules(settings: Settings) -> Rules:
    """Return what the settings put in the place of the failover table."""
    return {
        (name, code): rule
        for name, provider in settings.providers.items()
        for code, rule in provider.failover.items()
    }


def catalogue_of(registry: Registry, accounts: Accounts, settings: Settings) -> Catalogue:
    """Join what is installed with what has an account."""
    offers = tuple(
        Offer(spec=account.adapter.spec, account=account.name, simulated=account.simulated)
        for account in accounts.all()
    )
    used = {offer.spec.name for offer in offers}
    idle = tuple(spec for spec in registry.specs if spec.name not in used)
    disabled = (name for name, provider in settings.providers.items() if provider.accounts)
    return Catalogue(offers=offers, idle=idle, disabled=frozenset(disabled) - used)
