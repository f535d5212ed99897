"""Jobs: the list, and one job with everything that happened to it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import msgspec
from litestar import get, post
from litestar.handlers import BaseRouteHandler

from gateway.api import paging
from gateway.api.replies import AnyRequest, Reply
from gateway.console.desk import ConsoleDesk, done_word, path_id
from gateway.console.forms import read_query
from gateway.console.pages import redirect
from gateway.console.words import origin_of
from gateway.ids import DELIVERY, JOB, well_formed
from gateway.service.deliveries import unknown_delivery
from gateway.service.jobs import OwnedJob, PlanEntry, TimelineView, not_found
from gateway.service.plans import PlanView
from gateway.storage.jobs import JobFilter
from providers.contract.status import JobStatus

PAGE: Final = 50
DELIVERIES: Final = 50
STATUSES: Final = [status.value for status in JobStatus]
MAX_OWNER: Final = 256


def job_pages(desk: ConsoleDesk) -> list[BaseRouteHandler]:
    """Return the pages about jobs, and the form that sends a delivery again."""
    specs = (*(offer.spec for offer in desk.catalogue.offers), *desk.catalogue.idle)
    providers = sorted({spec.name for spec in specs})
    filters = {
        "status": paging.one_of(STATUSES),
        "provider": paging.one_of(providers),
        "owner": _owner,
        "held": paging.parse_flag,
        "cursor": paging.parse_cursor_text,
        "done": done_word,
    }

    @get("/")
    async def page(request: AnyRequest) -> Reply:
        visitor = await desk.entrance.admit(request)
        query = read_query(request, filters)
        chosen = {name: query[name] for name in ("status", "provider", "owner", "held") if name in query}
        scope = msgspec.json.encode(["console", sorted(chosen.items())]).decode()
        place = {name: query[name] for name in ("cursor",) if name in query}
        asked = paging.place_of({**place, "limit": PAGE}, scope, key=desk.cursor_key)
        found = await desk.jobs.owned(
            JobFilter(
                owner=query.get("owner"),
                status=JobStatus(query["status"]) if "status" in query else None,
                provider=query.get("provider"),
                held=query.get("held"),
                before_id=asked.before,
                limit=PAGE + 1,
            )
        )
        shown, cursor = paging.cut_page(found, asked, key=desk.cursor_key)
        return await desk.show(
            "jobs.html",
            visitor,
            done=query.get("done", ""),
            jobs=shown,
            cursor=cursor,
            first="cursor" not in query,
            chosen=chosen,
            statuses=STATUSES,
            providers=providers,
        )

    @get("/jobs/{job_id:str}")
    async def job(request: AnyRequest) -> Reply:
        visitor = await desk.entrance.admit(request)
        query = read_query(request, {"done": done_word})
        owned = await desk.jobs.show_owned(job_id_of(request))
        return await desk.show(
            "job.html",
            visitor,
            media=_media(desk, owned),
            done=query.get("done", ""),
            **await _about(desk, owned),
        )

    @post("/deliveries/{delivery_id:str}/redeliver")
    async def redeliver(request: AnyRequest) -> Reply:
        _, fields = await desk.entrance.admit_form(request)
        delivery_id = path_id(request, "delivery_id")
        if not well_formed(delivery_id, DELIVERY):
            raise unknown_delivery()
        sent = await desk.deliveries.redeliver(delivery_id, owner=None)
        from_endpoint = fields.get("from") == "endpoint" and sent.endpoint_id is not None
        back = f"endpoints/{sent.endpoint_id}" if from_endpoint else f"jobs/{sent.job_id}"
        return redirect(f"/console/{back}?done=redeliver").reply()

    return [page, job, redeliver]


async def _about(desk: ConsoleDesk, owned: OwnedJob) -> dict[str, Any]:
    job = owned.job
    timeline = await desk.jobs.timeline(job.id, owner=None)
    doubted = job.attempts[-1] if job.held is not None and job.attempts else None
    return {
        "owner": owned.owner,
        "job": job,
        "metadata": msgspec.json.decode(job.metadata, type=dict[str, str]),
        "plan": _plan(timeline),
        "entries": [(entry.__struct_config__.tag, entry) for entry in timeline.entries],
        "doubted": doubted,
        "offered": () if doubted is None else (await desk.holds.offered([doubted.id]))[doubted.id],
        "deliveries": await desk.deliveries.of_job(job.id, owner=None, before=None, limit=DELIVERIES),
    }


def _plan(timeline: TimelineView) -> PlanView | None:
    """Read the plan; another version's, which may be of another form, stands in the timeline as it is."""
    for entry in timeline.entries:
        if isinstance(entry, PlanEntry):
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(entry.plan, type=PlanView)
    return None


def _media(desk: ConsoleDesk, owned: OwnedJob) -> set[str]:
    """Say whence this job's film comes, or may come once it is there while the page is open."""
    origins = {origin_of(output.url) for output in owned.job.outputs}
    return {*desk.media, *(one for one in origins if one is not None)}


def _owner(text: str) -> str:
    if len(text) > MAX_OWNER:
        raise ValueError(f"expected at most {MAX_OWNER} characters")
    return text


def job_id_of(request: AnyRequest) -> str:
    """Return a job's id from the path.

    Raises:
        Refusal: `not-found`.
    """
    text = path_id(request, "job_id")
    if not well_formed(text, JOB):
        raise not_found()
    return text
