"""Every check over built calls catches the function that breaks it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from providers.conformance.declared import check_declared
from providers.contract.adapter import Adapter, CallContext
from providers.contract.exchange import HttpRequest
from providers.contract.mapping import build_body
from providers.contract.motion import MotionRequest
from providers.contract.spec import OptionSpec, Source, Standing
from providers.runway import adapter as good

SOURCE = Source("made up for a test", "2026-11-21", Standing.INFERRED)
COUNTER = itertools.count()
SHARED_BODY: dict[str, object] = {}


def submitting(**changes: Any) -> Callable[[MotionRequest, CallContext], HttpRequest]:
    return lambda request, context: replace(good.build_submit(request, context), **changes)


def polling(**changes: Any) -> Callable[[CallContext], HttpRequest]:
    return lambda context: replace(good.build_poll(context), **changes)


def polling_path(path: Callable[[str], tuple[str, ...]]) -> Callable[[CallContext], HttpRequest]:
    return lambda context: HttpRequest(method="GET", path=path(context.ref))


def dropping_seed(request: MotionRequest, context: CallContext) -> HttpRequest:
    return good.build_submit(replace(request, seed=None), context)


def clamping_intensity(request: MotionRequest, context: CallContext) -> HttpRequest:
    intensity = min(max(request.expression_intensity, 1), 5)
    return good.build_submit(replace(request, expression_intensity=intensity), context)


def sharing_its_body(request: MotionRequest, context: CallContext) -> HttpRequest:
    if not SHARED_BODY:
        SHARED_BODY.update(build_body(context.model, request))
    return HttpRequest(method="POST", path=("v1",), json=SHARED_BODY, paid=True)


def counting(request: MotionRequest, context: CallContext) -> HttpRequest:
    built = good.build_submit(request, context)
    return replace(built, headers=(("X-Request-Id", str(next(COUNTER))),))


def failing(*_: object) -> HttpRequest:
    raise RuntimeError("no")


def needing_options(context: CallContext) -> HttpRequest:
    return HttpRequest(method="GET", path=(context.options["api_path"], context.ref))


def failing_for_one_option(context: CallContext) -> HttpRequest:
    if context.options.get("api_path") == "legacy":
        raise KeyError("legacy")
    return good.build_poll(context)


CHOICE = OptionSpec(name="api_path", values=("current", "legacy"), meaning="which path", source=SOURCE)
WITH_CHOICE = replace(good, spec=replace(good.spec, options=(CHOICE,)))

CASES: list[tuple[str, Adapter, str, str]] = [
    ("unpaid submit", replace(good, build_submit=submitting(paid=False)), "paid", "paid=True"),
    ("paid poll", replace(good, build_poll=polling(paid=True)), "paid", "build_poll"),
    ("paid cancel", replace(good, build_cancel=polling(paid=True)), "paid", "build_cancel"),
    (
        "paid probe",
        replace(good, build_probe=lambda: HttpRequest(method="GET", path=("v1",), paid=True)),
        "paid",
        "build_probe",
    ),
    ("failing submit", replace(good, build_submit=failing), "builds", "RuntimeError: no"),
    ("failing poll", replace(good, build_poll=failing), "builds", "build_poll"),
    ("failing probe", replace(good, build_probe=failing), "builds", "build_probe"),
    ("attempt without options", replace(WITH_CHOICE, build_poll=needing_options), "builds", "KeyError"),
    ("one option", replace(WITH_CHOICE, build_poll=failing_for_one_option), "builds", "legacy"),
    (
        "ref pasted into a path",
        replace(good, build_poll=polling_path(lambda ref: ("v1", *ref.split("/")))),
        "refs",
        "a/b",
    ),
    (
        "ref pasted to a word",
        replace(good, build_poll=polling_path(lambda ref: (f"task-{ref}",))),
        "refs",
        "build_poll",
    ),
    (
        "ref unquoted",
        replace(good, build_poll=polling_path(lambda ref: (ref.replace("%2f", "/"),))),
        "refs",
        "..%2f",
    ),
    ("ref stripped", replace(good, build_poll=polling_path(lambda ref: (ref.lstrip("-+"),))), "refs", "-abc"),
    (
        "ref left out",
        replace(good, build_cancel=polling_path(lambda _: ("v1", "tasks"))),
        "refs",
        "build_cancel",
    ),
    ("slash in a segment", replace(good, build_submit=submitting(path=("v1/x",))), "request-form", "v1/x"),
    (
        "whole URL",
        replace(good, build_submit=submitting(path=("https://a.example",))),
        "request-form",
        "slash",
    ),
    (
        "host in the path",
        replace(good, build_submit=submitting(path=("api.dev.runwayml.com", "v1"))),
        "request-form",
        "names the host",
    ),
    ("empty segment", replace(good, build_submit=submitting(path=("v1", ""))), "request-form", "empty"),
    (
        "climbing segment",
        replace(good, build_submit=submitting(path=("..", "v1"))),
        "request-form",
        "relative",
    ),
    ("no path", replace(good, build_submit=submitting(path=())), "request-form", "no path"),
    ("odd method", replace(good, build_submit=submitting(method="post")), "request-form", "method"),
    (
        "body that is no JSON",
        replace(good, build_submit=submitting(json={"a": object()})),
        "request-form",
        "not JSON",
    ),
    (
        "credential",
        replace(good, build_poll=polling(headers=(("Authorization", "Bearer x"),))),
        "request-form",
        "credential",
    ),
    (
        "header of the gateway",
        replace(good, build_poll=polling(headers=(("Host", "x"),))),
        "request-form",
        "gateway",
    ),
    (
        "header that breaks out",
        replace(good, build_poll=polling(headers=(("X", "a\r\nb"),))),
        "request-form",
        "sent",
    ),
    ("not deterministic", replace(good, build_submit=counting), "deterministic", "another request each time"),
    ("shared body", replace(good, build_submit=sharing_its_body), "deterministic", "same body object"),
    ("dropped option", replace(good, build_submit=dropping_seed), "conveyed", "another seed"),
    ("clamped option", replace(good, build_submit=clamping_intensity), "refusals", "expression_intensity"),
]


@pytest.mark.parametrize(("bad", "check", "words"), [pytest.param(*case, id=name) for name, *case in CASES])
def test_a_bad_call_is_caught_by_its_check(bad: Adapter, check: str, words: str) -> None:
    found = [finding for finding in check_declared(bad) if finding.check == f"declared.{check}"]
    assert any(words in str(finding) for finding in found), [str(finding) for finding in check_declared(bad)]


def test_an_option_may_change_the_path() -> None:
    def by_option(context: CallContext) -> HttpRequest:
        return HttpRequest(method="GET", path=(context.options.get("api_path", "current"), context.ref))

    assert check_declared(replace(WITH_CHOICE, build_poll=by_option)) == ()


@pytest.mark.parametrize(
    "place",
    [
        lambda ref: HttpRequest(method="GET", path=("v1",), query=(("generation_id", ref),)),
        lambda ref: HttpRequest(method="POST", path=("v1",), json={"task_id": ref}),
    ],
)
def test_a_ref_may_stand_in_the_query_or_the_body(place: Callable[[str], HttpRequest]) -> None:
    assert check_declared(replace(good, build_poll=lambda context: place(context.ref))) == ()
