"""`Prefer: wait=N`: an answer that comes when the job has ended, or when its caller has waited enough."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any, cast

from gateway.api.body import ClientGone
from gateway.api.departure import heard
from gateway.api.front import ASIDE_S
from gateway.api.replies import AnyRequest
from gateway.errors import StorageUnavailable, Unreadable
from gateway.jobs.view import JobView
from gateway.service.jobs import Jobs
from gateway.service.watch import Watch, Watcher
from gateway.telemetry import get_logger

_log = get_logger("gateway.http")


async def waited(
    request: AnyRequest, watch: Watch, jobs: Jobs, watcher: Watcher, accepted: JobView, *, within_s: int
) -> JobView:
    """Wait for a job that was accepted to end, and return it as it then stands.

    Whatever goes wrong meanwhile, the job is stored: it is then returned as it was accepted.

    Args:
        request: whose client waits; its time spent here is no work of ours.
        watch: the place where one waits.
        jobs: shows it.
        watcher: the client's place.
        accepted: the job as it was accepted, or as it was found.
        within_s: how long to wait at most, seconds.

    Raises:
        ClientGone: nobody waits any more.
    """
    if accepted.status.terminal:
        return accepted
    watch.follow(watcher, accepted.id, look=True)
    started_s = time.perf_counter()
    async with heard(request.receive, watcher):
        await watch.ended(watcher, within_s=within_s)
    cast("MutableMapping[str, Any]", request.scope)[ASIDE_S] = time.perf_counter() - started_s
    if watcher.gone:
        raise ClientGone("the client disconnected while it waited for its job")
    if watch.stopping:
        return accepted
    try:
        return await jobs.show(accepted.id, owner=None)  # whose it is was seen when it was accepted
    except (StorageUnavailable, Unreadable) as error:
        _log.warning("http.wait", job_id=accepted.id, error=str(error))
        return accepted
