"""A client as the documentation wants them: it repeats what was not answered, always under the same key."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import httpx
from running_gateway import ENDED, PROVIDERS, Document, asked

AGAIN_S = 0.05
EVENTS = ("job.succeeded", "job.failed", "job.cancelled", "job.held")
BUSY = frozenset({429, 503})


class CarefulClient:
    """Posts, cancels and reads through one or several addresses of one gateway, whichever answers.

    Args:
        clients: one for each address.
        receiver: where webhooks go; None asks for none.
    """

    def __init__(self, *clients: httpx.AsyncClient, receiver: str | None = None) -> None:
        self._clients = itertools.cycle(clients)
        self._receiver = receiver

    async def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """Ask until there is an answer that is not "come back"."""
        while True:
            try:
                reply = await next(self._clients).request(method, path, **options)  # type: ignore[arg-type]  # httpx's own
            except httpx.TransportError:
                await asyncio.sleep(AGAIN_S)
                continue
            if reply.status_code not in BUSY:
                return reply
            await asyncio.sleep(AGAIN_S)

    async def post(self, number: int, *, mark: str = "", provider: str | None = None) -> str:
        """Post a job of this number until it is accepted; its id. The number is in its character's URL."""
        body = asked(
            provider or PROVIDERS[number % len(PROVIDERS)],
            character=f"{asked()['character']['url']}?job={number}{mark}",
        )
        if self._receiver is not None:
            body["webhook"] = {"url": self._receiver, "events": list(EVENTS)}
        key = {"Idempotency-Key": f"job-{number}"}
        reply = await self.ask("POST", "/v1/jobs", json=body, headers=key)
        assert reply.status_code == 202, reply.text
        accepted: str = reply.json()["id"]
        return accepted

    async def job(self, job_id: str) -> Document:
        reply = await self.ask("GET", f"/v1/jobs/{job_id}")
        assert reply.status_code == 200, reply.text
        shown: Document = reply.json()
        return shown

    async def cancel(self, job_id: str) -> None:
        """Ask for its end; an earlier try may have got through."""
        reply = await self.ask("POST", f"/v1/jobs/{job_id}/cancel")
        assert reply.status_code in {200, 202, 409}, reply.text

    async def jobs(self) -> list[Document]:
        """Every job there is."""
        found: list[Document] = []
        cursor = ""
        while True:
            reply = await self.ask("GET", f"/v1/jobs?limit=100{cursor}")
            assert reply.status_code == 200, reply.text
            page = reply.json()
            found += page["jobs"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def settled(self, every_s: float = 0.1) -> list[Document]:
        """Every job, once each has ended or is held."""
        while True:
            jobs = await self.jobs()
            if all(is_settled(job) for job in jobs):
                return jobs
            await asyncio.sleep(every_s)

    async def events(self, job_id: str) -> list[Document]:
        """What happened to a job."""
        reply = await self.ask("GET", f"/v1/jobs/{job_id}/timeline")
        assert reply.status_code == 200, reply.text
        return [entry for entry in reply.json()["entries"] if entry["kind"] == "event"]


def is_settled(job: Document) -> bool:
    """Whether nothing of it happens any more by itself."""
    return job["status"] in ENDED or job["held"] is not None


def held_of(jobs: Sequence[Document]) -> list[str]:
    """The ids of the jobs that are held."""
    return [job["id"] for job in jobs if job["held"] is not None]
