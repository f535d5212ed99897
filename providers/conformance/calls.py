"""The calls an adapter builds from made-up requests: pure, marked rightly, refs whole, nothing dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from providers.conformance.access import header_problems
from providers.conformance.finding import Finding
from providers.conformance.lost import GONE, look, look_problems
from providers.conformance.samples import (
    ATTEMPT_ID,
    HOSTILE_REFS,
    PLAIN_REF,
    option_sets,
    plain_request,
    variations,
)
from providers.contract.adapter import MOST_LOOKS, Adapter, CallContext, Sought
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import unconveyable
from providers.contract.motion import MotionRequest
from providers.contract.spec import ModelSpec, Spec

_SENT_MS = 1_790_000_000_000
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

#: Answers to a look that name no run.
_EMPTY = HttpResponse(status=200, headers={"content-type": "application/json"}, body=b"{}")

Build = Callable[[], HttpRequest]


def check_calls(adapter: Adapter) -> Iterator[Finding]:
    """Build every call for every model and every combination of options, and look at each."""
    seen: set[Finding] = set()
    for finding in _check_all(adapter):
        if finding not in seen:
            seen.add(finding)
            yield finding


def _check_all(adapter: Adapter) -> Iterator[Finding]:
    for model in adapter.spec.models:
        for options in (*option_sets(adapter.spec), {}):
            yield from _check_submit(adapter, model, options)
            yield from _check_about_ref(adapter, model, options)
            yield from _check_look(adapter, model, options)
    build_probe = adapter.build_probe
    if build_probe is not None:
        yield from check_call(adapter.spec, "build_probe", build_probe, paid=False)


def _check_submit(adapter: Adapter, model: ModelSpec, options: Mapping[str, str]) -> Iterator[Finding]:
    context = CallContext(model=model, attempt_id=ATTEMPT_ID, options=options)

    def build(request: MotionRequest) -> Build:
        return lambda: adapter.build_submit(request, context)

    for kind in model.character_types:
        request = plain_request(model, kind)
        if unconveyable(model, request):
            continue
        yield from check_call(adapter.spec, "build_submit", build(request), paid=True)
        plain = _attempt(build(request))
        for path, varied in variations(model, request):
            yield from _check_variation(model, path, varied, _attempt(build(varied)), plain)


def _check_variation(
    model: ModelSpec, path: str, request: MotionRequest, built: HttpRequest | Exception, plain: object
) -> Iterator[Finding]:
    where = f"build_submit with another {path}"
    if unconveyable(model, request):
        if not isinstance(built, ValueError):
            problem = (
                "built a request the table says cannot be conveyed; use mapping.build_body, which refuses it"
            )
            yield Finding("declared.refusals", where, problem)
    elif isinstance(built, Exception):
        yield Finding("declared.builds", where, f"failed: {type(built).__name__}: {built}")
    elif built == plain:
        problem = "is the same request as without it: what the caller asked for is dropped"
        yield Finding("declared.conveyed", where, problem)


def _check_about_ref(adapter: Adapter, model: ModelSpec, options: Mapping[str, str]) -> Iterator[Finding]:
    calls = {"build_poll": adapter.build_poll, "build_cancel": adapter.build_cancel}
    for name, call in calls.items():
        if call is None:
            continue
        for ref in (PLAIN_REF, *HOSTILE_REFS):
            context = CallContext(model=model, attempt_id=ATTEMPT_ID, options=options, ref=ref)

            def build(
                call: Callable[[CallContext], HttpRequest] = call, context: CallContext = context
            ) -> HttpRequest:
                return call(context)

            yield from check_call(adapter.spec, name, build, paid=False, ref=ref)


def _check_look(adapter: Adapter, model: ModelSpec, options: Mapping[str, str]) -> Iterator[Finding]:
    if adapter.reconcile is None:
        return
    context = CallContext(model=model, attempt_id=ATTEMPT_ID, options=options)
    plenty = tuple(f"{PLAIN_REF}-{number}" for number in range(5 * MOST_LOOKS))
    for offered in ((), (PLAIN_REF,), HOSTILE_REFS, plenty):
        sought = Sought(body={}, sent_ms=_SENT_MS, doubted_ms=_SENT_MS + 60_000, offered=offered)
        for answer in (GONE, _EMPTY):
            done, again = (look(adapter, context, sought, (answer,)) for _ in range(2))
            for check, problem in look_problems(done, (answer,)):
                yield Finding(f"declared.look-{check}", "reconcile", problem)
            if done.asked != again.asked:
                problem = "asks for something else each time; take nothing but the arguments and answers"
                yield Finding("declared.deterministic", "reconcile", problem)
            for request in done.asked:
                whole = next((ref for ref in offered if ref in request.path), "")
                in_form = _form_problems(request, adapter.spec.base_url, whole)
                for problem in (*in_form, *header_problems(request.headers, adapter.spec)):
                    yield Finding("declared.request-form", "reconcile", problem)


def check_call(spec: Spec, where: str, build: Build, *, paid: bool, ref: str = "") -> Iterator[Finding]:
    """Say what is wrong with one built call.

    Args:
        spec: the adapter's tables.
        where: the name of the function, for the findings.
        build: builds the call; called three times.
        paid: whether it must be marked as one that may cost money.
        ref: the ref it is about, which must reach the provider whole.
    """
    built = _attempt(build)
    if isinstance(built, Exception):
        problem = f"failed: {type(built).__name__}: {built}; it must also work for an attempt without options"
        yield Finding("declared.builds", where, problem)
        return
    if built.paid is not paid:
        reason = "it may cost money" if paid else "it costs nothing, and one that may is never repeated"
        yield Finding("declared.paid", where, f"must be marked paid={paid}: {reason}")
    for problem in _form_problems(built, spec.base_url, ref):
        yield Finding("declared.request-form", where, problem)
    for problem in header_problems(built.headers, spec):
        yield Finding("declared.request-form", where, problem)
    if ref and not _keeps(built, ref):
        problem = f"the ref {ref!r} must stand whole as one path segment, query value or field of the body"
        yield Finding("declared.refs", where, problem)
    yield from _check_repeatable(built, build, where)


def _form_problems(built: HttpRequest, base_url: str, ref: str) -> Iterator[str]:
    host = base_url.partition("://")[2].partition("/")[0]
    if built.method not in _METHODS:
        yield f"the method {built.method!r} is none of {', '.join(sorted(_METHODS))}"
    for segment in built.path:
        if ref and segment == ref:
            continue
        if segment in {"", ".", ".."} or "/" in segment:
            yield f"the path segment {segment!r} is empty, relative or holds a slash; give single segments"
        if segment.casefold() == host:
            yield f"the path names the host {host}; it belongs into spec.base_url"
    if not built.path:
        yield "there is no path; the base URL is not the place to post to"
    try:
        msgspec.json.encode(built.json)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        yield f"the body is not JSON: {error}"


def _keeps(built: HttpRequest, ref: str) -> bool:
    in_query = any(value == ref for _, value in built.query)
    return ref in built.path or in_query or any(value == ref for value in (built.json or {}).values())


def _check_repeatable(built: HttpRequest, build: Build, where: str) -> Iterator[Finding]:
    again = _attempt(build)
    if built != again:
        yield Finding(
            "declared.deterministic", where, "gives another request each time; take nothing but the arguments"
        )
    elif built.json is not None and built.json:
        built.json.clear()
        if _attempt(build) == built:
            yield Finding(
                "declared.deterministic", where, "hands out the same body object each time; build it anew"
            )


def _attempt(build: Build) -> HttpRequest | Exception:
    try:
        return build()
    except Exception as error:  # noqa: BLE001  (an adapter's function may fail in any way; the caller judges it)
        return error
