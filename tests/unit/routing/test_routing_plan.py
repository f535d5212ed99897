"""Where a job is tried, in which order, and why nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import SOURCE, a_model, a_request, a_spec, wishing
from msgspec.structs import replace

from gateway.jobs.job import JobRequest, RoutingWish
from gateway.registry import load_adapters
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.plan import UNTOLD_DURATION_S, plan
from providers.contract.mapping import build_body, unconveyable
from providers.contract.motion import (
    OPTIONS,
    Character,
    CharacterType,
    ContentModeration,
    Ratio,
    Reference,
    Threshold,
)
from providers.contract.spec import ModelSpec, ParamSpec, Spec

STEADY = settings(derandomize=True, database=None, deadline=None)
MODERATION = "content_moderation.public_figure_threshold"
LOW = ContentModeration(public_figure_threshold=Threshold.LOW)
INSTALLED = load_adapters().specs


def without(path: str, implied: str | None = None) -> ModelSpec:
    """A model with no field for one option."""
    full = a_model()
    kept = tuple(param for param in full.params if param.option != path)
    if implied is not None:
        kept += (ParamSpec(option=path, implied=implied, source=SOURCE),)
    return replace(full, params=kept)


def catalogue(*specs: Spec, idle: tuple[Spec, ...] = ()) -> Catalogue:
    return Catalogue(offers=tuple(Offer(spec=spec, account="default") for spec in specs), idle=idle)


ACME, BOLT, CORE = a_spec("acme"), a_spec("bolt"), a_spec("core")
DEAF = a_spec("deaf", models=(without(MODERATION, "auto"),))
OTHER = a_spec("other", models=(a_model("act-three"),))


@pytest.mark.parametrize(
    ("request_", "offered", "chosen", "left_out"),
    [
        (a_request(), catalogue(ACME, BOLT), ["acme", "bolt"], {}),
        (a_request(), catalogue(BOLT, ACME), ["bolt", "acme"], {}),
        (wishing("bolt", "acme"), catalogue(ACME, BOLT), ["bolt", "acme"], {}),
        (
            wishing("core", "acme"),
            catalogue(ACME, BOLT, CORE),
            ["core", "acme"],
            {"bolt": "not_requested"},
        ),
        (wishing(exclude=("acme",)), catalogue(ACME, BOLT), ["bolt"], {"acme": "excluded"}),
        (wishing("acme", exclude=("acme",)), catalogue(ACME), [], {"acme": "excluded"}),
        (wishing("acme", "acme"), catalogue(ACME), ["acme"], {}),
        (wishing("nobody"), catalogue(ACME), [], {"acme": "not_requested"}),
        (a_request(model="act-three"), catalogue(ACME, OTHER), ["other"], {"acme": "model_not_offered"}),
        (a_request(model="nothing"), catalogue(ACME), [], {"acme": "model_not_offered"}),
        (a_request(), catalogue(DEAF, ACME), ["deaf", "acme"], {}),
        (a_request(content_moderation=LOW), catalogue(DEAF, ACME), ["acme"], {"deaf": "cannot_convey"}),
        (a_request(), catalogue(ACME, idle=(BOLT,)), ["acme"], {"bolt": "not_enabled"}),
        (wishing("bolt"), catalogue(idle=(BOLT,)), [], {"bolt": "not_enabled"}),
        (a_request(), catalogue(), [], {}),
    ],
)
def test_plans(request_: JobRequest, offered: Catalogue, chosen: list[str], left_out: dict[str, str]) -> None:
    made = plan(request_, offered)
    assert [one.provider for one in made.candidates] == chosen
    assert {one.provider: one.code for one in made.left_out} == left_out
    assert all(one.reason for one in made.left_out)


def test_what_cannot_be_conveyed_is_named_with_what_could() -> None:
    (left_out,) = plan(a_request(content_moderation=LOW), catalogue(DEAF)).left_out
    (option,) = left_out.options
    assert (option.option, option.supported) == (MODERATION, ("auto",))
    assert MODERATION in left_out.reason


def test_an_idle_provider_is_told_how_to_be_enabled() -> None:
    (left_out,) = plan(a_request(), catalogue(idle=(ACME,))).left_out
    assert "ACME_API_KEY" in left_out.reason


def test_every_account_is_a_candidate_of_its_own() -> None:
    offers = tuple(Offer(spec=ACME, account=name, simulated=name == "b") for name in ("a", "b"))
    made = plan(a_request(), Catalogue(offers=offers))
    assert [(one.account, one.simulated) for one in made.candidates] == [("a", False), ("b", True)]


@pytest.mark.parametrize(("duration_s", "counted_s"), [(None, UNTOLD_DURATION_S), (3.0, 3.0), (12.5, 12.5)])
def test_the_estimate_is_by_duration_or_by_the_longest_when_none_is_told(
    duration_s: float | None, counted_s: float
) -> None:
    request = a_request(reference=Reference(url="https://media.example/v.mp4", duration_s=duration_s))
    (candidate,) = plan(request, catalogue(ACME)).candidates
    assert candidate.estimated_micro_usd == round(50_000 * counted_s)


@pytest.mark.parametrize("duration_s", [2.9, 30.1])
def test_a_reference_of_the_wrong_length_is_not_conveyed(duration_s: float) -> None:
    request = a_request(reference=Reference(url="https://media.example/v.mp4", duration_s=duration_s))
    assert [one.code for one in plan(request, catalogue(ACME)).left_out] == ["cannot_convey"]


def test_a_catalogue_names_all_that_is_installed() -> None:
    offered = catalogue(ACME, idle=(OTHER,))
    assert offered.providers == {"acme", "other"}
    assert offered.models == {"act-two", "act-three"}


REQUESTS = st.builds(
    a_request,
    character=st.builds(
        Character,
        type=st.sampled_from(CharacterType),
        url=st.sampled_from(["https://media.example/a.png", "https://media.example/" + "a" * 3000]),
    ),
    reference=st.builds(
        Reference,
        url=st.just("https://media.example/v.mp4"),
        duration_s=st.none() | st.floats(1, 60),
    ),
    model=st.sampled_from(["act-two", "act-three"]),
    ratio=st.sampled_from(Ratio),
    body_control=st.booleans(),
    expression_intensity=st.integers(0, 7),
    seed=st.none() | st.integers(-1, 2**33),
    content_moderation=st.builds(ContentModeration, public_figure_threshold=st.sampled_from(Threshold)),
)
NAMES = [*(spec.name for spec in INSTALLED), "acme", "nobody"]
SPECS = st.sampled_from([*INSTALLED, ACME, *(a_spec("acme", models=(without(path),)) for path in OPTIONS)])
OFFERS = st.lists(SPECS, max_size=4, unique_by=lambda spec: spec.name)


@STEADY
@given(
    REQUESTS,
    OFFERS,
    st.lists(st.sampled_from(NAMES), max_size=3),
    st.lists(st.sampled_from(NAMES), max_size=2),
)
def test_no_plan_holds_a_provider_that_cannot_convey_the_request(
    request: JobRequest, specs: list[Spec], wished: list[str], excluded: list[str]
) -> None:
    wish = RoutingWish(providers=tuple(wished), exclude=tuple(excluded))
    made = plan(replace(request, routing=wish), catalogue(*specs))
    by_name = {spec.name: spec for spec in specs}
    for candidate in made.candidates:
        model = by_name[candidate.provider].model(request.model)
        assert model is not None
        assert unconveyable(model, request) == ()
        assert build_body(model, request)
        assert candidate.provider not in excluded
        assert not wished or candidate.provider in wished
    chosen = [one.provider for one in made.candidates]
    judged = [*chosen, *(one.provider for one in made.left_out)]
    assert sorted(judged) == sorted(by_name), "every provider is either chosen or left out, with a reason"
    order = wished or [spec.name for spec in specs]
    assert chosen == sorted(chosen, key=order.index)
