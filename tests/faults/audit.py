"""What must be true after every fault: of the money, of the messages, of the database."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing

from invariants import check_invariants
from running_gateway import ENDED, Document
from webhook_receiver import Message

SQLITE = "sqlite:///"


def paid(stats: Document) -> dict[str, int]:
    """How often each job, known by its character's URL, was accepted by a provider."""
    return {url: times for seen in stats["by_character"].values() for url, times in seen.items()}


def check_payments(stats: Document, jobs: Sequence[Document]) -> None:
    """No job was accepted twice by its provider, and each that succeeded was accepted."""
    bought = paid(stats)
    assert set(bought.values()) <= {1}, {url: times for url, times in bought.items() if times > 1}
    ours = {job["request"]["character"]["url"]: job for job in jobs}
    assert bought.keys() <= ours.keys(), f"bought and unknown: {bought.keys() - ours.keys()}"
    for url, job in ours.items():
        if job["status"] == "succeeded":
            assert bought[url] == 1
            assert job["attempts"][-1]["state"] == "succeeded"
        else:
            given_up = job["error"] is not None and job["error"]["code"] == "submission_unknown"
            assert job["held"] is not None or job["status"] == "cancelled" or given_up, job


def check_messages(messages: Sequence[Message]) -> None:
    """However often an event was sent, it was the same bytes under one id, and each job ended once.

    A job may be held more than once, but once an attempt: a submission that was written off is made anew.
    """
    bodies, sent = defaultdict(set), defaultdict(set)
    for message in messages:
        kind, job = message.event["type"], message.event["data"]
        held = job["attempts"][-1]["id"] if kind == "job.held" else None
        sent[job["id"], kind, held].add((message.id, message.body))
        bodies[message.id].add(message.body)
    assert not {event: versions for event, versions in sent.items() if len(versions) > 1}
    assert not {message_id: versions for message_id, versions in bodies.items() if len(versions) > 1}
    ends = [job_id for job_id, kind, _ in sent if kind != "job.held"]
    assert len(ends) == len(set(ends))


def told(messages: Sequence[Message]) -> set[tuple[str, str]]:
    """The jobs that a receiver heard of, and what it heard: (id, event)."""
    return {(message.event["data"]["id"], message.event["type"]) for message in messages}


def to_be_told(jobs: Sequence[Document]) -> set[tuple[str, str]]:
    """What a receiver must have heard of jobs that have settled."""
    ended = {(job["id"], f"job.{job['status']}") for job in jobs if job["status"] in ENDED}
    return ended | {(job["id"], "job.held") for job in jobs if job["held"] is not None}


def check_database(url: str) -> int:
    """Check the invariants of a database that nothing uses any more; how many jobs it holds."""
    if url.startswith(SQLITE):
        with closing(sqlite3.connect(url.removeprefix(SQLITE))) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return check_invariants(url)
