"""Runs of submissions whose answer was lost: what the provider has of them, and a job's timeline."""

from __future__ import annotations

from running_gateway import Document, RunningGateway, fault

from gateway.simulator.jobs import Job as Run

UNSEEN = fault("no_rows", "list")
"""The provider shows no run in its lists."""


async def accept_both(running: RunningGateway, provider: str) -> list[str]:
    """Two equal jobs, submitted at one time."""
    await running.gateway.stop_worker()
    jobs = [await running.accept(provider) for _ in range(2)]
    await running.gateway.start_worker()
    return jobs


def runs_at(running: RunningGateway, provider: str) -> list[Run]:
    """What a provider runs, oldest first."""
    return list(running.simulator.simulator._mounts[provider].jobs._jobs.values())


async def note(running: RunningGateway, job_id: str, kind: str) -> Document:
    """The note of the last event of a type."""
    notes = [one["data"]["note"] for one in await running.timeline(job_id, "event") if one["type"] == kind]
    found: Document = notes[-1]
    return found
