"""Health, metrics, this document, and the pages that explain problems."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation
from gateway.api.replies import JSON

OPS = (
    Operation(
        method="get",
        path="/health/live",
        id="live",
        summary="Whether the process answers.",
        scope=None,
        answers=schemas.HealthView,
    ),
    Operation(
        method="get",
        path="/health/ready",
        id="ready",
        summary="Whether it can take work; 503 when not.",
        scope=None,
        answers=schemas.HealthView,
        or_status={503: "It cannot."},
    ),
    Operation(
        method="get",
        path="/metrics",
        id="metrics",
        summary="Metrics in Prometheus's text format.",
        scope="metrics",
        answers="text/plain",
    ),
    Operation(
        method="get",
        path="/openapi.json",
        id="openapi",
        summary="This document.",
        scope=None,
        answers=JSON,
    ),
    Operation(
        method="get",
        path="/docs",
        id="docs",
        summary="This document, to be read.",
        scope=None,
        answers="text/html",
    ),
    Operation(
        method="get",
        path="/problems/{slug}",
        id="problem",
        summary="What a problem type means and what to do.",
        scope=None,
        answers="text/html",
        refusals=("not-found",),
    ),
)
