"""Held jobs, and the three things that can be done with one. What may cost twice is asked once more."""

from __future__ import annotations

from typing import Final

from litestar import get, post
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from gateway.api.replies import AnyRequest, Reply
from gateway.console.desk import ConsoleDesk, done_word
from gateway.console.forms import read_query
from gateway.console.jobs import job_id_of
from gateway.console.pages import redirect
from gateway.errors import FieldProblem, Refusal
from gateway.service.holds import Action, AdoptRun, GiveUp, HeldJob, SubmitAgain

ASKED_ONCE_MORE: Final = frozenset({"resubmit", "fail"})
"""One may pay twice; the other gives up what may have been paid for."""
SHOWN: Final = 50
"""Held jobs on the page: the oldest, which are given up first."""


class Standing(Struct, frozen=True, kw_only=True):
    """A held job, and the runs that may be its."""

    found: HeldJob
    offered: tuple[str, ...]


def held_pages(desk: ConsoleDesk) -> list[BaseRouteHandler]:
    """Return the page of held jobs, and the form that settles one."""

    @get("/held")
    async def page(request: AnyRequest) -> Reply:
        visitor = await desk.entrance.admit(request)
        query = read_query(request, {"done": done_word})
        found = await desk.holds.all(limit=SHOWN)
        offered = await desk.holds.offered([one.attempt.id for one in found])
        standing = [Standing(found=one, offered=offered[one.attempt.id]) for one in found]
        return await desk.show("held.html", visitor, done=query.get("done", ""), standing=standing)

    @post("/jobs/{job_id:str}/resolve", status_code=200)
    async def resolve(request: AnyRequest) -> Reply:
        visitor, fields = await desk.entrance.admit_form(request)
        job_id, word, attempt_id = job_id_of(request), fields.get("action", ""), fields.get("attempt", "")
        action = _action(word, fields.get("provider_ref", "").strip())
        if word in ASKED_ONCE_MORE and fields.get("sure") != "yes":
            found = await desk.holds.find(job_id)
            return await desk.show("sure.html", visitor, found=found, word=word, attempt_id=attempt_id)
        await desk.holds.resolve(job_id, action, by=visitor.principal.key_id, attempt_id=attempt_id or None)
        return redirect(f"/console/jobs/{job_id}?done={word}").reply()

    return [page, resolve]


def _action(word: str, ref: str) -> Action:
    if word == "adopt" and ref:
        return AdoptRun(ref)
    if word == "resubmit":
        return SubmitAgain()
    if word == "fail":
        return GiveUp()
    message = "is required to adopt" if word == "adopt" else "must be adopt, resubmit or fail"
    problem = FieldProblem("/provider_ref" if word == "adopt" else "/action", message)
    raise Refusal("validation-failed", f"{problem.pointer} {message}.", errors=(problem,))
