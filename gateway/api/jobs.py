"""/v1/jobs: create, read, list, cancel, timeline, events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import msgspec
from litestar import Router, get, post
from litestar.handlers import BaseRouteHandler
from msgspec import UNSET, Struct
from msgspec.structs import replace

from gateway.api import paging
from gateway.api.auth import Doorkeeper
from gateway.api.body import decode_body, fingerprint
from gateway.api.headers import header_values
from gateway.api.prefer import wait_s
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.api.request_body import BodyLimits, check_body_headers, take_body
from gateway.api.schemas import CreateJob, JobPage, ResolveJob
from gateway.api.semantics import Meant, Terms, understand
from gateway.api.streams import EventStream, StreamDesk, Wish, last_event_id
from gateway.api.waiting import waited
from gateway.errors import FieldProblem, Refusal
from gateway.ids import JOB, well_formed
from gateway.jobs.view import JobView, view
from gateway.service.holds import Action, AdoptRun, GiveUp, Holds, SubmitAgain
from gateway.service.intake import Accepted, Intake, NewJob
from gateway.service.jobs import Jobs, not_found
from gateway.service.keys import Principal, Scope
from gateway.service.watch import Kind, Watch
from gateway.storage.jobs import JobFilter
from gateway.telemetry.tracing import HEADER, Tracing, parse_traceparent
from providers.contract.status import JobStatus

_decoder = msgspec.json.Decoder(CreateJob)
_resolve_decoder = msgspec.json.Decoder(ResolveJob)
_BARE_KEY = re.compile(rb"[!-~]{1,255}")
#: A structured field's String (RFC 8941, 3.3.3) without spaces.
_QUOTED_KEY = re.compile(rb'"((?:[!#-\[\]-~]|\\["\\])*)"')

FILTERS = {
    "status": paging.one_of([status.value for status in JobStatus]),
    "held": paging.parse_flag,
    "created_after": paging.parse_instant,
    "created_before": paging.parse_instant,
    **paging.PAGE,
}


class JobDesk(Struct, frozen=True, kw_only=True):
    """What the routes work with."""

    intake: Intake
    jobs: Jobs
    holds: Holds
    door: Doorkeeper
    terms: Terms
    body: BodyLimits
    cursor_key: bytes
    watch: Watch
    streams: StreamDesk
    tracing: Tracing


def job_routes(desk: JobDesk) -> Router:
    """Return the routes of /v1/jobs."""
    filters = {**FILTERS, "provider": paging.one_of(sorted(desk.terms.providers))}

    @post("/")
    async def create(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        # Once more with the body: who sends another type is told that before anything of its key.
        check_body_headers(request)
        key = idempotency_key(header_values(request, b"idempotency-key"))
        body, meant = await read_job(request, desk, principal)
        new = NewJob(
            owner=principal.owner,
            request=meant.request,
            metadata=meant.metadata,
            webhook_secret=meant.webhook_secret,
            idempotency_key=key,
            fingerprint=fingerprint(body),
            traceparent=parse_traceparent(header_values(request, HEADER.encode())),
        )
        within_s = wait_s(header_values(request, b"prefer"))
        if within_s is None:
            accepted = await _accept(desk, new)
            return _accepted(accepted, await _as_accepted(desk, accepted, principal))
        # Its place before its job: who is told that there is none has stored nothing.
        with desk.watch.place(Kind.WAIT, principal.owner) as watcher:
            accepted = await _accept(desk, new)
            shown = await _as_accepted(desk, accepted, principal)
            job = await waited(request, desk.watch, desk.jobs, watcher, shown, within_s=within_s)
            applied = job.status.terminal or not desk.watch.stopping
            return _accepted(accepted, job, waited_s=within_s if applied else None)

    @get("/{job_id:str}")
    async def read(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.jobs.show(_job_id(request), owner=principal.sees))

    @get("/")
    async def page(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        query = paging.parse_query(request.scope["query_string"], filters)
        paging.check_order(query, "created_after", "created_before")
        asked = paging.place_of(query, _cursor_scope(principal, query), key=desk.cursor_key)
        found = await desk.jobs.page(
            JobFilter(
                owner=principal.sees,
                status=JobStatus(query["status"]) if "status" in query else None,
                held=query.get("held"),
                provider=query.get("provider"),
                created_after_ms=query.get("created_after"),
                created_before_ms=query.get("created_before"),
                before_id=asked.before,
                limit=asked.limit + 1,
            )
        )
        shown, cursor = paging.cut_page(found, asked, key=desk.cursor_key)
        return json_reply(JobPage(jobs=shown, next_cursor=cursor))

    @post("/{job_id:str}/cancel")
    async def cancel(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.jobs.cancel(_job_id(request), owner=principal.sees))

    @get("/{job_id:str}/timeline")
    async def timeline(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.jobs.timeline(_job_id(request), owner=principal.sees))

    @get("/{job_id:str}/events")
    async def events(request: AnyRequest) -> EventStream:
        principal = await desk.door.admit(request, Scope.JOBS)
        wish = Wish(
            job_id=_job_id(request),
            after=last_event_id(header_values(request, b"last-event-id")),
            owner=principal.owner,
            sees=principal.sees,
            still_good=partial(desk.door.still_good, request, Scope.JOBS),
        )
        return EventStream(desk.streams, wish)

    @post("/{job_id:str}/resolve")
    async def resolve(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.OPERATOR)
        body = decode_body(_resolve_decoder, await take_body(request, desk.body))
        about = None if body.attempt is UNSET else body.attempt
        return json_reply(
            await desk.holds.resolve(
                _job_id(request), resolution(body), by=principal.key_id, attempt_id=about
            )
        )

    handlers: list[BaseRouteHandler] = [create, read, page, cancel, timeline, events, resolve]
    return Router("/v1/jobs", route_handlers=handlers)


async def _accept(desk: JobDesk, new: NewJob) -> Accepted:
    """Store a job, as the first span of its trace or the next of its caller's."""
    about = {"motion_gateway.model": new.request.model}
    with desk.tracing.span("POST /v1/jobs", "server", about, parent=new.traceparent) as span:
        accepted = await desk.intake.accept(replace(new, traceparent=span.context))
        span.note({"motion_gateway.job_id": accepted.job_id, "motion_gateway.replayed": accepted.job is None})
        return accepted


async def read_job(request: AnyRequest, desk: JobDesk, principal: Principal) -> tuple[bytes, Meant]:
    """Read a job's body, and what it means for whoever sent it.

    Raises:
        Refusal: it cannot be read, or is not wanted.
    """
    body = await take_body(request, desk.body)
    return body, understand(decode_body(_decoder, body), desk.terms, key_policy=principal.policy)


def resolution(body: ResolveJob) -> Action:
    """Turn a body into an operator's word.

    Raises:
        Refusal: `validation-failed`, `provider_ref` is missing or out of place.
    """
    ref = body.provider_ref
    if (body.action == "adopt") != isinstance(ref, str):
        message = "is required to adopt" if ref is UNSET else "is for action adopt only"
        problem = FieldProblem("/provider_ref", message)
        raise Refusal("validation-failed", f"/provider_ref {message}.", errors=(problem,))
    if isinstance(ref, str):
        return AdoptRun(ref)
    return SubmitAgain() if body.action == "resubmit" else GiveUp()


def idempotency_key(values: Sequence[bytes]) -> str | None:
    """Read the Idempotency-Key, quoted or bare; both forms of the same text are the same key.

    Raises:
        Refusal: `idempotency-key-invalid`.
    """
    if not values:
        return None
    value = values[0].strip(b" \t")
    quoted = _QUOTED_KEY.fullmatch(value)
    bare = re.sub(rb"\\(.)", rb"\1", quoted[1]) if quoted else value
    if len(values) > 1 or _BARE_KEY.fullmatch(bare) is None or (quoted is None and value.startswith(b'"')):
        detail = "One Idempotency-Key of 1 to 255 visible ASCII characters, quoted or bare, is accepted."
        raise Refusal("idempotency-key-invalid", detail)
    return bare.decode("ascii")


async def _as_accepted(desk: JobDesk, accepted: Accepted, principal: Principal) -> JobView:
    if accepted.job is not None:
        return view(accepted.job, ())
    return await desk.jobs.show(accepted.job_id, owner=principal.owner)


def _accepted(accepted: Accepted, shown: JobView, *, waited_s: int | None = None) -> Reply:
    """Answer with a job: 200 when it was waited for and has ended."""
    headers = {
        "location": f"/v1/jobs/{accepted.job_id}",
        "idempotency-replayed": "true" if accepted.job is None else "false",
    }
    if waited_s is not None:
        headers["preference-applied"] = f"wait={waited_s}"
    return json_reply(
        shown, status=200 if waited_s is not None and shown.status.terminal else 202, headers=headers
    )


def _job_id(request: AnyRequest) -> str:
    # Taken from the request: how a handler's own parameter is declared differs between Litestar's versions.
    text: str = request.path_params["job_id"]
    if not well_formed(text, JOB):
        raise not_found()
    return text


def _cursor_scope(principal: Principal, query: dict[str, object]) -> str:
    filters = {name: value for name, value in query.items() if name not in paging.PAGE}
    return msgspec.json.encode([principal.sees, sorted(filters.items())]).decode()
