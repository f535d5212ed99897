"""The worker over the parts: which tasks share a lane, and what is done beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from gateway.app.parts import Parts
from gateway.jobs.transitions import TaskKind
from gateway.service.dispatch import FOLLOW_KINDS, LOOK_KINDS, SUBMIT_KINDS, JobTask
from gateway.service.outbox import DELIVERY_KINDS, DeliveryTask
from gateway.telemetry import get_logger
from gateway.worker.cancel import Cancel
from gateway.worker.deliver import WAITING_ROOM, Deliver
from gateway.worker.loop import GATHER_S, Lane, Worker
from gateway.worker.poll import Poll
from gateway.worker.reconcile import Reconcile
from gateway.worker.submit import Submit
from gateway.worker.sweep import Sweep

_log = get_logger("gateway.worker")

MEASURE_S = 2.0
STOCK_S = 15.0
LEARN_S = 3.0
LOOKS_AT_ONCE = 8
"""For lost submissions: each asks its provider for long lists."""


def start_worker(parts: Parts, *, alone: bool) -> Worker:
    """Begin to carry out tasks.

    Args:
        parts: as built.
        alone: whether no other process can work on this database.
    """
    settings, sweep = parts.settings.worker, Sweep(parts.tools)
    worker = Worker(
        parts.leases,
        parts.store.clock,
        parts.wakeup.subscribe,
        heartbeat_s=settings.heartbeat_s,
        idle_s=settings.idle_s,
        stop_s=settings.stop_s,
        sole_worker=alone,
        on_jump=sweep.clock_jumped,
    )
    _log.info("worker.started", worker=parts.name, lease_s=settings.lease_s)
    worker.start(
        [*_job_lanes(parts), _delivery_lane(parts)],
        [
            (settings.idle_s, sweep),
            (MEASURE_S, sweep.measure),
            (STOCK_S, sweep.take_stock),
            (LEARN_S, parts.run_times.renew),
        ],
    )
    return worker


def _job_lanes(parts: Parts) -> list[Lane[JobTask]]:
    """Lanes of their own: neither creates that hang nor looks for lost ones keep paid results waiting."""
    tools, dispatch, most = parts.tools, parts.dispatch, parts.settings.worker.concurrency
    steps: dict[TaskKind, Callable[[JobTask], Awaitable[None]]] = {
        TaskKind.SUBMIT: Submit(tools, parts.routes, hold_s=parts.settings.jobs.hold_s),
        TaskKind.POLL: Poll(tools, parts.routes),
        TaskKind.RECONCILE: Reconcile(tools, parts.adoptions),
        TaskKind.CANCEL: Cancel(tools),
    }

    async def carry_out(task: JobTask) -> None:
        about = {"motion_gateway.job_id": task.job.id}
        with parts.tracing.span(task.claim.kind, "internal", about, parent=task.job.traceparent):
            await steps[task.claim.kind](task)

    return [
        Lane(
            kinds,
            limit,
            partial(dispatch.claim, kinds=kinds),
            carry_out,
            partial(dispatch.next_due_ms, kinds),
            gather_s=gather_s,
        )
        for kinds, limit, gather_s in (
            (SUBMIT_KINDS, most, 0.0),
            (FOLLOW_KINDS, most, GATHER_S),
            (LOOK_KINDS, min(LOOKS_AT_ONCE, most), 0.0),
        )
    ]


def _delivery_lane(parts: Parts) -> Lane[DeliveryTask]:
    settings = parts.settings.webhooks
    deliver = Deliver(parts.tools, parts.sender, parts.store.sealer, settings)
    return Lane(
        DELIVERY_KINDS,
        # Some of them only wait a moment for a lane that has its fill; the sender counts those under way.
        WAITING_ROOM * settings.concurrency,
        deliver.claim,
        deliver.carry_out,
        deliver.next_due_ms,
        looks_after=deliver.looks_after,
    )
