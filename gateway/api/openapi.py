"""The API's description (OpenAPI 3.1), built from the very types that decode requests and encode replies.

Operations are listed here by hand, since what a handler takes and answers is more than a framework can
guess from it; a test holds this list against the routes that are served.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import msgspec
from msgspec import Struct

from gateway.api import schemas
from gateway.api.problems import PROBLEMS
from gateway.api.streams import ProgressEvent
from gateway.jobs.view import JobView
from gateway.service.deliveries import DeliveryView
from gateway.service.endpoints import EndpointDeleted, EndpointView, EndpointWithSecret, Recovered
from gateway.service.jobs import TimelineView
from gateway.service.pings import PingView
from gateway.service.plans import PlanView
from gateway.service.record import JobEvent
from gateway.service.usage import UsageView

Json = dict[str, object]

JSON = "application/json"
PROBLEM = "application/problem+json"


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: str
    path: str
    id: str
    summary: str
    scope: str | None = None
    """The scope its key needs; None for routes that ask for no key."""
    takes: type | None = None
    answers: type | str
    """The type of the reply's document, or its media type where it is no document of ours."""
    status: int = 200
    or_status: Mapping[int, str] = {}
    """Further statuses of success, with what each means; those but 204 have the same document."""
    refusals: tuple[str, ...] = ()
    """Slugs of the problems it can answer with, besides those of every route."""
    parameters: tuple[Json, ...] = ()
    headers: tuple[str, ...] = ()
    at_times: tuple[str, ...] = ()
    """Headers that only some of the answers have."""
    told: str = ""
    """What else there is to say."""


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _path(name: str, description: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": description,
    }


JOB_ID = _path("job_id", "The job's id.")
IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 257},
    "description": "1 to 255 visible ASCII characters, quoted or bare. The same key with the same body "
    "answers with the job it made before; kept as long as the job.",
}
ENDPOINT_ID = _path("endpoint_id", "The endpoint's id.")
PAGE_OF = (
    _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "Entries on a page."),
    _query("cursor", {"type": "string"}, "`next_cursor` of the page before."),
)
PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string", "examples": ["wait=30"]},
    "description": "`wait=N` (RFC 7240): answer when the job has ended, with 200, or after N seconds, with "
    "202. N is 1 to 60; more is taken as 60, and `Preference-Applied` says so. What is malformed, or another "
    "preference, is not looked at. A replay waits as well.",
}
LAST_EVENT_ID: Json = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "The `id` of the event that was received last: the stream goes on after it.",
}
DAY: Json = {"type": "string", "format": "date"}
INSTANT: Json = {"type": "string", "format": "date-time"}
AUTH = ("unauthenticated", "forbidden", "bad-header", "quota-exceeded")
STORAGE = ("storage-unavailable",)
ONE_JOB = ("not-found", "job-unreadable")
BODY = (
    "bad-request",
    "malformed-body",
    "body-too-deep",
    "duplicate-key",
    "request-timeout",
    "body-too-large",
    "unsupported-media-type",
    "unsupported-content-encoding",
)

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/jobs",
        id="createJob",
        summary="Accept a job. Durable when answered.",
        scope="jobs",
        takes=schemas.CreateJob,
        answers=JobView,
        status=202,
        or_status={200: "It was waited for, and has ended."},
        parameters=(IDEMPOTENCY, PREFER),
        headers=("Location", "Idempotency-Replayed"),
        at_times=("Preference-Applied",),
        refusals=(
            *AUTH,
            *BODY,
            "idempotency-key-invalid",
            "validation-failed",
            "unknown-model",
            "invalid-url",
            "forbidden-target",
            "insecure-callback",
            "idempotency-key-reused",
            "no-provider",
            "spend-limit-reached",
            "temporary-reduced-capacity",
            *STORAGE,
        ),
    ),
    Operation(
        method="post",
        path="/v1/plan",
        id="planJob",
        summary="Where a job would be tried, in order, with each call and its cost, and why nowhere else."
        " Nothing is stored or sent, and so no Idempotency-Key is looked at.",
        scope="jobs",
        takes=schemas.CreateJob,
        answers=PlanView,
        refusals=(
            *AUTH,
            *BODY,
            "validation-failed",
            "unknown-model",
            "invalid-url",
            "forbidden-target",
            "insecure-callback",
            *STORAGE,
        ),
    ),
    Operation(
        method="get",
        path="/v1/jobs",
        id="listJobs",
        summary="List jobs, newest first.",
        scope="jobs",
        answers=schemas.JobPage,
        parameters=(
            _query(
                "status",
                {"enum": ["queued", "running", "succeeded", "failed", "cancelled"]},
                "Only jobs of this status.",
            ),
            _query("held", {"type": "boolean"}, "Only jobs that are held, or that are not."),
            _query("provider", {"type": "string"}, "Only jobs whose latest attempt is there."),
            _query("created_after", INSTANT, "Only jobs accepted after this instant."),
            _query("created_before", INSTANT, "Only jobs accepted before this instant."),
            _query(
                "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "Jobs on a page."
            ),
            _query("cursor", {"type": "string"}, "`next_cursor` of the page before, with the same filters."),
        ),
        refusals=(*AUTH, "invalid-cursor", "validation-failed", *STORAGE),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}",
        id="readJob",
        summary="Read a job.",
        scope="jobs",
        answers=JobView,
        parameters=(JOB_ID,),
        refusals=(*AUTH, *ONE_JOB, *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/jobs/{job_id}/cancel",
        id="cancelJob",
        summary="Ask for a job's end.",
        scope="jobs",
        answers=JobView,
        parameters=(JOB_ID,),
        refusals=(*AUTH, *ONE_JOB, "job-already-finished", *STORAGE),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/timeline",
        id="readTimeline",
        summary="Everything that happened to a job: plan, events, provider exchanges, deliveries.",
        scope="jobs",
        answers=TimelineView,
        parameters=(JOB_ID,),
        refusals=(*AUTH, *ONE_JOB, *STORAGE),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/events",
        id="watchJob",
        summary="A job's events as they happen, as server-sent events, to its end.",
        scope="jobs",
        answers="text/event-stream",
        or_status={204: "The job has ended, and there is nothing after `Last-Event-ID`: do not come back."},
        parameters=(JOB_ID, LAST_EVENT_ID),
        refusals=(*AUTH, *ONE_JOB, "temporary-reduced-capacity", *STORAGE),
        told="Every event of the job's log in order: `id` is its number, `event` its type, and `data` what a "
        "webhook carries (`JobEvent`), with the job as it was then; of the past `progress` is mostly unknown "
        "(null). `event: progress`, which has no `id`, tells in between that it rose (`ProgressEvent`). A "
        "comment comes after 15 s of silence. The stream ends after the last event of a job that has ended; "
        "when it breaks before, come back with `Last-Event-ID`.",
    ),
    Operation(
        method="post",
        path="/v1/jobs/{job_id}/resolve",
        id="resolveJob",
        summary="Settle a held job: adopt a run the provider knows, submit again, or fail.",
        scope="operator",
        takes=schemas.ResolveJob,
        answers=JobView,
        parameters=(JOB_ID,),
        refusals=(
            *AUTH,
            *BODY,
            *ONE_JOB,
            "job-not-held",
            "validation-failed",
            "provider-unreachable",
            *STORAGE,
        ),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/deliveries",
        id="listJobDeliveries",
        summary="A job's webhooks, newest first, each with its tries.",
        scope="jobs",
        answers=schemas.DeliveryPage,
        parameters=(JOB_ID, *PAGE_OF),
        refusals=(*AUTH, "not-found", "invalid-cursor", "validation-failed", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/deliveries/{delivery_id}/redeliver",
        id="redeliver",
        summary="Send a webhook again now, delivered or not: the same bytes under the same `webhook-id`.",
        scope="jobs",
        answers=DeliveryView,
        status=202,
        parameters=(_path("delivery_id", "The delivery's id."),),
        refusals=(*AUTH, "not-found", "endpoint-disabled", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints",
        id="createEndpoint",
        summary="Make a receiver of what happens to all jobs of the owner. Its secret is shown this once.",
        scope="jobs",
        takes=schemas.CreateEndpoint,
        answers=EndpointWithSecret,
        status=201,
        headers=("Location",),
        refusals=(
            *AUTH,
            *BODY,
            "validation-failed",
            "invalid-url",
            "forbidden-target",
            "insecure-callback",
            "too-many-endpoints",
            *STORAGE,
        ),
    ),
    Operation(
        method="get",
        path="/v1/webhook-endpoints",
        id="listEndpoints",
        summary="List webhook endpoints, newest first.",
        scope="jobs",
        answers=schemas.EndpointPage,
        parameters=PAGE_OF,
        refusals=(*AUTH, "invalid-cursor", "validation-failed", *STORAGE),
    ),
    Operation(
        method="get",
        path="/v1/webhook-endpoints/{endpoint_id}",
        id="readEndpoint",
        summary="Read a webhook endpoint.",
        scope="jobs",
        answers=EndpointView,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, "not-found", *STORAGE),
    ),
    Operation(
        method="patch",
        path="/v1/webhook-endpoints/{endpoint_id}",
        id="changeEndpoint",
        summary="Change an endpoint's URL, events or description. What waits goes to the new URL.",
        scope="jobs",
        takes=schemas.ChangeEndpoint,
        answers=EndpointView,
        parameters=(ENDPOINT_ID,),
        refusals=(
            *AUTH,
            *BODY,
            "not-found",
            "validation-failed",
            "invalid-url",
            "forbidden-target",
            "insecure-callback",
            *STORAGE,
        ),
    ),
    Operation(
        method="delete",
        path="/v1/webhook-endpoints/{endpoint_id}",
        id="deleteEndpoint",
        summary="Forget an endpoint. What waits for it is not sent; jobs still show what was.",
        scope="jobs",
        answers=EndpointDeleted,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, "not-found", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/rotate",
        id="rotateEndpoint",
        summary="Give it another secret, shown this once; the old one signs beside it for 24 hours.",
        scope="jobs",
        answers=EndpointWithSecret,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, "not-found", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/test",
        id="testEndpoint",
        summary="Send it a `ping` now, even while it is disabled, and tell what came of it.",
        scope="jobs",
        answers=PingView,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, "not-found", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/enable",
        id="enableEndpoint",
        summary="Send to it again: what happens from now on, and what still waits.",
        scope="jobs",
        answers=EndpointView,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, "not-found", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/disable",
        id="disableEndpoint",
        summary="Send to it no more, until it is enabled.",
        scope="jobs",
        answers=EndpointView,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, "not-found", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/recover",
        id="recoverEndpoint",
        summary="Send it all that it did not get since an instant, also from while it was disabled.",
        scope="jobs",
        takes=schemas.RecoverEndpoint,
        answers=Recovered,
        status=202,
        parameters=(ENDPOINT_ID,),
        refusals=(*AUTH, *BODY, "not-found", "validation-failed", "endpoint-disabled", *STORAGE),
    ),
    Operation(
        method="get",
        path="/v1/webhook-endpoints/{endpoint_id}/deliveries",
        id="listEndpointDeliveries",
        summary="What was sent to it, newest first, each delivery with its tries.",
        scope="jobs",
        answers=schemas.DeliveryPage,
        parameters=(ENDPOINT_ID, *PAGE_OF),
        refusals=(*AUTH, "not-found", "invalid-cursor", "validation-failed", *STORAGE),
    ),
    Operation(
        method="post",
        path="/v1/callbacks/{provider}/{token}",
        id="takeCallback",
        summary="For providers: report the end of a run. It is asked for then, and nothing else is believed.",
        answers=schemas.CallbackTaken,
        parameters=(
            _path("provider", "The provider's name."),
            _path("token", "What the submission was given; it names the attempt, and proves itself."),
        ),
        refusals=(
            "invalid-signature",
            "quota-exceeded",
            "bad-request",
            "malformed-body",
            "request-timeout",
            "body-too-large",
            *STORAGE,
        ),
    ),
    Operation(
        method="get",
        path="/v1/providers",
        id="listProviders",
        summary="Providers, their models, and what each can be told.",
        scope="jobs",
        answers=schemas.ProvidersView,
        refusals=AUTH,
    ),
    Operation(
        method="get",
        path="/v1/usage",
        id="readUsage",
        summary="What jobs cost, by owner, day and provider, and what is left of budgets.",
        scope="jobs",
        answers=UsageView,
        parameters=(
            _query("from", DAY, "The first day (UTC); the first of the month of `to` when left out."),
            _query("to", DAY, "The last day (UTC), at most 366 days later; today when left out."),
            _query("owner", {"type": "string"}, "Whose jobs; another owner's, or all, for operators only."),
        ),
        refusals=(*AUTH, "validation-failed", *STORAGE),
    ),
    Operation(
        method="get",
        path="/health/live",
        id="live",
        summary="Whether the process answers.",
        answers=schemas.HealthView,
    ),
    Operation(
        method="get",
        path="/health/ready",
        id="ready",
        summary="Whether it can take work; 503 when not.",
        answers=schemas.HealthView,
    ),
    Operation(
        method="get",
        path="/metrics",
        id="metrics",
        summary="Metrics in Prometheus's text format.",
        scope="metrics",
        answers="text/plain",
        refusals=AUTH,
    ),
    Operation(method="get", path="/openapi.json", id="openapi", summary="This document.", answers=JSON),
    Operation(
        method="get", path="/docs", id="docs", summary="This document, to be read.", answers="text/html"
    ),
    Operation(
        method="get",
        path="/problems/{slug}",
        id="problem",
        summary="What a problem type means and what to do.",
        answers="text/html",
        parameters=(_path("slug", "The end of a problem's `type`."),),
        refusals=("not-found",),
    ),
)


def build_openapi() -> bytes:
    """Return the document as indented JSON."""
    types: set[type] = {JobEvent, ProgressEvent}  # in streams, which have no schema
    types |= {taken for op in OPERATIONS for taken in (op.takes, op.answers) if isinstance(taken, type)}
    ordered = sorted(types, key=lambda one: one.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    _open_documents(components)
    components["Problem"] = PROBLEM_SCHEMA
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Motion Gateway",
            "version": version("motion-gateway"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "One API for motion transfer: a character performs what a reference video shows. "
            "Every error is a problem document (RFC 9457); every reply bears X-Request-Id.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "mgk_..."}},
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _open_documents(components: dict[str, Json]) -> None:
    """Say of stored documents what they are, which their type cannot."""
    job: object = components["JobView"]["properties"]
    if not isinstance(job, dict):
        raise TypeError("JobView has no properties")
    job["request"] = {
        "type": "object",
        "description": "The request as accepted, defaults filled in, without the webhook's secret.",
    }
    job["metadata"] = {"type": "object", "additionalProperties": {"type": "string"}}
    entry: object = components["PlanEntry"]["properties"]
    if not isinstance(entry, dict):
        raise TypeError("PlanEntry has no properties")
    entry["plan"] = {"$ref": "#/components/schemas/PlanView"}


def _describe(operation: Operation) -> Json:
    described: Json = {"operationId": operation.id, "summary": operation.summary}
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.scope is not None:
        described["security"] = [{"key": []}]
        described["description"] = f"Needs the scope `{operation.scope}`."
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.takes)}
    if operation.told:
        described["description"] = f"{described.get('description', '')} {operation.told}".lstrip()
    responses: dict[str, object] = {str(operation.status): _answer(operation)}
    for status, meaning in operation.or_status.items():
        document = {} if status == 204 else _answer(operation)
        responses[str(status)] = document | {"description": meaning}
    by_status: dict[int, list[str]] = {}
    for slug in operation.refusals:
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    for status, slugs in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "Problem: " + ", ".join(f"`{slug}`" for slug in slugs),
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if operation.id == "ready":
        responses["503"] = {"description": "It cannot.", "content": _content(schemas.HealthView)}
    described["responses"] = responses
    return described


def _answer(operation: Operation) -> Json:
    answer: Json = {"description": operation.summary, "content": _content(operation.answers)}
    if operation.headers or operation.at_times:
        text: Json = {"schema": {"type": "string"}}
        always = {name: text | {"required": True} for name in operation.headers}
        answer["headers"] = always | dict.fromkeys(operation.at_times, text)
    return answer


def _content(answers: type | str) -> Json:
    if isinstance(answers, str):
        return {answers: {"schema": {}}}
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{answers.__name__}"}}}


PROBLEM_SCHEMA: Json = {
    "title": "Problem",
    "description": "RFC 9457. `type` is a page of this gateway that says what to do.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request's id."},
        "violated-policies": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The limits that were reached.",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) into the body."},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
