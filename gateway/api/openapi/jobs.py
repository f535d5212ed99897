"""/v1/jobs, and /v1/jobs/{job_id} with what can be asked and done there."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation
from gateway.api.openapi.parameters import IDEMPOTENCY, LAST_EVENT_ID, PREFER, Json, in_query, page_of
from gateway.api.openapi.refusals import ONE_JOB, PAGE, RECEIVER
from gateway.jobs.view import JobView
from gateway.service.jobs import TimelineView

_INSTANT: Json = {"type": "string", "format": "date-time"}

JOBS = (
    Operation(
        method="post",
        path="/v1/jobs",
        id="createJob",
        summary="Accept a job. Durable when answered.",
        takes=schemas.CreateJob,
        answers=JobView,
        status=202,
        or_status={200: "It was waited for, and has ended."},
        parameters=(IDEMPOTENCY, PREFER),
        headers=("Location", "Idempotency-Replayed"),
        at_times=("Preference-Applied",),
        refusals=(
            "idempotency-key-invalid",
            "unknown-model",
            *RECEIVER,
            "idempotency-key-reused",
            "job-unreadable",
            "no-provider",
            "spend-limit-reached",
            "temporary-reduced-capacity",
        ),
    ),
    Operation(
        method="get",
        path="/v1/jobs",
        id="listJobs",
        summary="List jobs, newest first.",
        answers=schemas.JobPage,
        parameters=(
            in_query(
                "status",
                {"enum": ["queued", "running", "succeeded", "failed", "cancelled"]},
                "Only jobs of this status.",
            ),
            in_query("held", {"type": "boolean"}, "Only jobs that are held, or that are not."),
            in_query("provider", {"type": "string"}, "Only jobs whose latest attempt is there."),
            in_query("created_after", _INSTANT, "Only jobs accepted after this instant."),
            in_query("created_before", _INSTANT, "Only jobs accepted before this instant."),
            *page_of("Jobs", cursor="`next_cursor` of the page before, with the same filters."),
        ),
        refusals=PAGE,
    ),
)

OF_A_JOB = (
    Operation(
        method="get",
        path="/v1/jobs/{job_id}",
        id="readJob",
        summary="Read a job.",
        answers=JobView,
        refusals=ONE_JOB,
    ),
    Operation(
        method="post",
        path="/v1/jobs/{job_id}/cancel",
        id="cancelJob",
        summary="Ask for a job's end.",
        answers=JobView,
        refusals=(*ONE_JOB, "job-already-finished"),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/timeline",
        id="readTimeline",
        summary="Everything that happened to a job: plan, events, provider exchanges, deliveries.",
        answers=TimelineView,
        refusals=ONE_JOB,
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/events",
        id="watchJob",
        summary="A job's events as they happen, as server-sent events, to its end.",
        answers="text/event-stream",
        or_status={204: "The job has ended, and there is nothing after `Last-Event-ID`: do not come back."},
        parameters=(LAST_EVENT_ID,),
        refusals=(*ONE_JOB, "temporary-reduced-capacity"),
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
        refusals=(*ONE_JOB, "job-not-held", "provider-unreachable"),
    ),
)
