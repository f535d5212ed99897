"""The API, and the console, before the parts."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

from gateway.api.asgi import Routes, build_api
from gateway.api.auth import Doorkeeper
from gateway.api.callbacks import CallbackDesk, callback_routes
from gateway.api.deliveries import delivery_routes
from gateway.api.endpoints import EndpointDesk, endpoint_routes
from gateway.api.front import Front
from gateway.api.jobs import JobDesk, job_routes
from gateway.api.openapi import build_openapi
from gateway.api.ops import OpsDesk, probe_routes, reader_routes
from gateway.api.plans import plan_routes
from gateway.api.providers import provider_routes
from gateway.api.request_body import BodyLimits
from gateway.api.semantics import Terms
from gateway.api.streams import StreamDesk
from gateway.api.usage import usage_routes
from gateway.app.parts import Parts
from gateway.console.desk import ConsoleDesk
from gateway.console.entrance import POLICY, TOO_MANY, TRIES, Entrance
from gateway.console.pages import Pages
from gateway.console.routes import console_routes
from gateway.console.session import Sessions
from gateway.console.words import origin_of
from gateway.ids import Ids
from gateway.service.inflow import Inflow
from gateway.service.tries import Tries
from gateway.service.usage import Usage

Ready = Callable[[], Awaitable[str | None]]
"""Says why the process is not ready; None when it is."""


def build_gateway_api(parts: Parts, ready: Ready) -> Front:
    """Return the ASGI application of the whole API, with the console."""
    settings, door = parts.settings, _doorkeeper(parts)
    body = BodyLimits(max_bytes=settings.server.body_max_bytes, timeout_s=settings.server.body_timeout_s)
    cursor_key = hashlib.sha256(b"cursors\0" + parts.store.secret.encode()).digest()
    desk = JobDesk(
        intake=parts.intake,
        jobs=parts.jobs,
        holds=parts.holds,
        door=door,
        terms=_terms(parts),
        body=body,
        cursor_key=cursor_key,
        watch=parts.watch,
        streams=StreamDesk(
            watch=parts.watch, stories=parts.stories, clock=parts.store.clock, spread=parts.spread
        ),
        tracing=parts.tracing,
    )
    callbacks = CallbackDesk(callbacks=parts.callbacks, body_timeout_s=settings.server.body_timeout_s)
    endpoints = EndpointDesk(
        endpoints=parts.endpoints,
        deliveries=parts.deliveries,
        recovery=parts.recovery,
        pings=parts.pings,
        door=door,
        body=body,
        cursor_key=cursor_key,
    )
    ops = _ops_desk(parts, door, ready)
    routes: list[Routes] = [
        job_routes(desk),
        plan_routes(desk, parts.planner, parts.ids, parts.renew),
        *callback_routes(callbacks),
        provider_routes(parts.catalogue, door, parts.healths),
        endpoint_routes(endpoints),
        *delivery_routes(parts.deliveries, door, cursor_key),
        usage_routes(Usage(parts.store.database, parts.store.clock), door),
        *probe_routes(ops),
        *reader_routes(ops),
        console_routes(_console(parts, door, cursor_key)),
    ]
    return _front(parts, routes)


def build_probes(parts: Parts, ready: Ready) -> Front:
    """Return an ASGI application of nothing but health and metrics, for a process without the API."""
    return _front(parts, probe_routes(_ops_desk(parts, _doorkeeper(parts), ready)))


def _front(parts: Parts, routes: Sequence[Routes]) -> Front:
    # A request's id guards nothing, so its randomness need not come from the operating system.
    return build_api(routes, ids=Ids(parts.store.clock, random.getrandbits), metrics=parts.metrics)


def _doorkeeper(parts: Parts) -> Doorkeeper:
    return Doorkeeper(
        parts.keys,
        required=parts.settings.auth.required,
        throttle=parts.throttle,
        on_denied=parts.metrics.rate_limited,
        spread=parts.spread,
    )


def _ops_desk(parts: Parts, door: Doorkeeper, ready: Ready) -> OpsDesk:
    return OpsDesk(
        door=door,
        metrics=parts.metrics,
        metrics_open=parts.settings.metrics.open,
        ready=ready,
        openapi=build_openapi(),
    )


def _terms(parts: Parts) -> Terms:
    settings = parts.settings
    return Terms(
        models=parts.catalogue.models,
        providers=parts.catalogue.providers,
        media=parts.media,
        receivers=parts.receivers,
        deadline_s=settings.jobs.deadline_s,
        on_unknown_submission=settings.jobs.on_unknown_submission,
        policy=settings.routing.policy,
        failover=settings.routing.failover,
    )


def _console(parts: Parts, door: Doorkeeper, cursor_key: bytes) -> ConsoleDesk:
    settings, clock = parts.settings, parts.store.clock
    # Whatever is on https, and the simulators and stand-ins that accounts may be pointed at on loopback.
    plain = {origin_of(account.base_url) for account in parts.accounts.all() if account.plain_http}
    return ConsoleDesk(
        entrance=Entrance(
            keys=parts.keys,
            door=door,
            sessions=Sessions(parts.store.secret, clock),
            tries=Inflow(clock, TRIES, policy=POLICY, too_many=TOO_MANY),
            required=settings.auth.required,
            server=settings.server,
        ),
        pages=Pages(clock, version=version("motion-gateway")),
        jobs=parts.jobs,
        holds=parts.holds,
        deliveries=parts.deliveries,
        endpoints=parts.endpoints,
        healths=parts.healths,
        tries=Tries(parts.store.database, clock),
        census=parts.census,
        catalogue=parts.catalogue,
        cursor_key=cursor_key,
        media=frozenset({"https:", *(one for one in plain if one is not None)}),
    )
