"""Runway's calls, built and read. Source of every field: `spec.OPENAPI`, unless the line says otherwise."""

from __future__ import annotations

from providers.contract.adapter import CallContext
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import build_body
from providers.contract.motion import MotionRequest
from providers.contract.reading import (
    count_at,
    is_object,
    list_at,
    message_of,
    number_at,
    read_object,
    read_object_if_any,
    ref_at,
    status_at,
    text_at,
    urls_in,
    value_at,
)
from providers.contract.report import Allowance, Cost, Failure, ModelAllowance, Observation, Submitted


def build_submit(request: MotionRequest, context: CallContext) -> HttpRequest:
    """POST /v1/character_performance."""
    body = build_body(context.model, request)
    return HttpRequest(method="POST", path=("v1", "character_performance"), json=body, paid=True)


def parse_submit(response: HttpResponse) -> Submitted:
    """Read `{id, estimatedCost?}`; the estimate is a maximum and not kept."""
    return Submitted(ref=ref_at(read_object(response), "id"))


def build_poll(context: CallContext) -> HttpRequest:
    """GET /v1/tasks/{id}."""
    return HttpRequest(method="GET", path=("v1", "tasks", context.ref))


def parse_poll(response: HttpResponse) -> Observation:
    """Read a task."""
    task = read_object(response)
    status = status_at(task, "status")
    code, reason = text_at(task, "failureCode"), message_of(value_at(task, "failure"))
    return Observation(
        status=status,
        outputs=urls_in(value_at(task, "output"), "url", "uri"),
        progress=number_at(task, "progress"),
        failure=Failure(code=code, message=reason) if code or reason else None,
        cost=_cost(number_at(task, "cost", "credits")),
    )


def parse_failure(response: HttpResponse) -> Failure:
    """Read `{error, issues?: [{code, path, message}], docUrl?}`; either may be missing."""
    document = read_object_if_any(response)
    parts = [message_of(value_at(document, "error"))]
    parts += [_issue(issue) for issue in list_at(document, "issues")[:5]]
    return Failure(message="; ".join(part for part in parts if part))


def build_cancel(context: CallContext) -> HttpRequest:
    """DELETE /v1/tasks/{id}: cancels an unfinished task, but deletes a finished one with its output."""
    return HttpRequest(method="DELETE", path=("v1", "tasks", context.ref))


def build_probe() -> HttpRequest:
    """GET /v1/organization: free and without side effects."""
    return HttpRequest(method="GET", path=("v1", "organization"))


def parse_probe(response: HttpResponse) -> Allowance:
    """Read the balance and, for each model, what the tier allows and was used in the last 24 hours."""
    organization = read_object(response)
    allowed = value_at(organization, "tier", "models")
    return Allowance(
        balance=_cost(number_at(organization, "creditBalance")),
        models=tuple(
            ModelAllowance(
                model=model,
                at_once=count_at(organization, "tier", "models", model, "maxConcurrentGenerations"),
                per_day=count_at(organization, "tier", "models", model, "maxDailyGenerations"),
                used_today=count_at(organization, "usage", "models", model, "dailyGenerations"),
            )
            for model in (sorted(allowed) if is_object(allowed) else ())
        ),
    )


def _issue(issue: object) -> str:
    where = ".".join(str(step) for step in list_at(issue, "path"))
    message = message_of(value_at(issue, "message") or value_at(issue, "code"))
    return f"{where}: {message}" if where and message else message


def _cost(amount: float | None) -> Cost | None:
    return None if amount is None else Cost(credits=amount)
