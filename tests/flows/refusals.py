"""Requests that must be refused, and their problems."""

from __future__ import annotations

import json
from typing import Any

import httpx
from raw_client import Answer
from running_gateway import Document, RunningGateway, asked

from gateway.api.problems import PROBLEMS

BODY = json.dumps(asked()).encode()
RECEIVER = "https://receiver.example/hook"


async def stored(running: RunningGateway) -> list[str]:
    jobs = (await running.client.get("/v1/jobs?limit=100")).json()["jobs"]
    return [job["id"] for job in jobs]


def judged(reply: httpx.Response | Answer, status: int, slug: str) -> Document:
    """The problem document of a reply that must be this one."""
    found = reply.status_code if isinstance(reply, httpx.Response) else reply.status
    body = reply.content if isinstance(reply, httpx.Response) else reply.body
    headers = {name.lower(): value for name, value in reply.headers.items()}
    assert (found, headers["content-type"]) == (status, "application/problem+json"), body[:500]
    problem: Document = json.loads(body)
    assert problem["type"] == f"/problems/{slug}", problem
    assert problem["status"] == status == PROBLEMS[slug].status
    assert problem["title"] == PROBLEMS[slug].title
    assert problem["instance"] == headers["x-request-id"]
    assert problem["detail"]
    return problem


def pointers(problem: Document) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


async def refused(
    running: RunningGateway, status: int, slug: str, *, content: bytes = BODY, headers: Any = None
) -> Document:
    """Post this, which must be refused so, and leave no trace."""
    before = await stored(running)
    given = {"Content-Type": "application/json"} if headers is None else headers
    reply = await running.client.post("/v1/jobs", content=content, headers=given)
    problem = judged(reply, status, slug)
    assert await stored(running) == before
    return problem


def authorization(running: RunningGateway) -> str:
    return f"Authorization: Bearer {running.key.key}"


def posting(running: RunningGateway, *headers: str) -> list[str]:
    return [authorization(running), "Content-Type: application/json", *headers]
