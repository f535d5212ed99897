"""Plans, a row each: what is asked of which accounts, who runs it in which order, and who is left out why."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import SOURCE, a_model, a_request, a_spec
from msgspec.structs import replace

from gateway.jobs.job import JobRequest, RoutingWish
from gateway.registry import load_adapters, load_emulations
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.conditions import Condition, Conditions
from gateway.routing.plan import plan
from gateway.routing.routes import JobRoutes
from gateway.service.plans import Planner, mapped
from gateway.settings import Secret
from gateway.upstream.accounts import Accounts, UpstreamAccount
from providers.contract.emulation import Create, Rules, WireRequest
from providers.contract.mapping import unconveyable
from providers.contract.motion import (
    OPTIONS,
    Character,
    CharacterType,
    ContentModeration,
    Ratio,
    Reference,
    Threshold,
    option,
)
from providers.contract.spec import ParamSpec, Price, Spec

MODERATION = "content_moderation.public_figure_threshold"


def priced(name: str, micro_usd_per_s: int, typical_run_s: float = 60, minimum: int = 0) -> Spec:
    price = Price(micro_usd_per_s=micro_usd_per_s, minimum_micro_usd=minimum, source=SOURCE)
    return a_spec(name, models=(a_model(price=price, typical_run_s=typical_run_s),))


def deaf(name: str) -> Spec:
    params = tuple(param for param in a_model().params if param.option != MODERATION)
    silent = ParamSpec(option=MODERATION, implied="auto", source=SOURCE)
    return a_spec(name, models=(a_model(params=(*params, silent)),))


DEAR, FAIR, CHEAP = priced("dear", 90_000, 30), priced("fair", 50_000, 60), priced("cheap", 20_000, 200)
FLOOR = priced("floor", 10_000, 60, minimum=500_000)
DEAF, OTHER = deaf("deaf"), a_spec("other", models=(a_model("act-three"),))
THREE = "dear fair cheap"
SPECS = {spec.name: spec for spec in (DEAR, FAIR, CHEAP, FLOOR, DEAF, OTHER)}

LOW: dict[str, Any] = {"content_moderation": ContentModeration(public_figure_threshold=Threshold.LOW)}
BUSY = Condition(unavailable="no_slot", reason="3 of 3 slots are taken")
OPEN = Condition(unavailable="breaker_open", reason="5 failures in a row", until_ms=1000)
FAST, SLOW = Condition(run_s=10), Condition(run_s=900)

Wish = dict[str, Any]
Known = dict[str, Condition]


def offered(text: str) -> Catalogue:
    """Read `dear fair/b -cheap !floor`: accounts, a provider without one, one that is switched off."""
    words = text.split()
    named = [word.partition("/") for word in words if word[0] not in "-!"]
    idle = [word for word in words if word[0] in "-!"]
    return Catalogue(
        offers=tuple(Offer(spec=SPECS[name], account=account or "default") for name, _, account in named),
        idle=tuple(SPECS[word[1:]] for word in idle),
        disabled=frozenset(word[1:] for word in idle if word[0] == "!"),
    )


def conditions(known: Known) -> Conditions:
    parts = {text: text.partition("/") for text in known}
    return {(name, account or "default"): known[text] for text, (name, _, account) in parts.items()}


# what is asked | routing | who there is | what is known of them | the order | who is left out, and why
TABLE: list[tuple[dict[str, Any], Wish, str, Known, str, str]] = [
    # Priority: the order of preference, or the caller's.
    ({}, {}, THREE, {}, "dear fair cheap", ""),
    ({}, {}, "cheap fair dear", {}, "cheap fair dear", ""),
    ({}, {"providers": ("cheap", "dear")}, THREE, {}, "cheap dear", "fair:not_requested"),
    ({}, {"providers": ("fair",)}, THREE, {}, "fair", "dear:not_requested cheap:not_requested"),
    ({}, {"exclude": ("dear",)}, THREE, {}, "fair cheap", "dear:excluded"),
    ({}, {"exclude": ("dear", "fair", "cheap")}, THREE, {}, "", "dear:excluded fair:excluded cheap:excluded"),
    ({}, {"providers": ("fair",), "exclude": ("fair",)}, "fair", {}, "", "fair:excluded"),
    ({}, {"providers": ("floor",)}, "fair", {}, "", "fair:not_requested"),
    ({}, {}, "", {}, "", ""),
    # Several accounts of one provider: each a candidate of its own, in the order of the settings.
    ({}, {}, "fair/b fair/a", {}, "fair/b fair/a", ""),
    ({}, {}, "dear/x fair/a fair/b", {}, "dear/x fair/a fair/b", ""),
    ({}, {"providers": ("fair", "dear")}, "dear/x fair/a fair/b", {}, "fair/a fair/b dear/x", ""),
    ({}, {"exclude": ("fair",)}, "dear fair/a fair/b", {}, "dear", "fair/a:excluded fair/b:excluded"),
    # Who is not in use.
    ({}, {}, "fair -dear", {}, "fair", "dear:not_enabled"),
    ({}, {}, "fair !dear", {}, "fair", "dear:disabled"),
    ({}, {"providers": ("dear",)}, "fair -dear", {}, "", "fair:not_requested dear:not_enabled"),
    # What cannot be conveyed.
    ({}, {}, "deaf fair", {}, "deaf fair", ""),
    (LOW, {}, "deaf fair", {}, "fair", "deaf:cannot_convey"),
    (LOW, {}, "deaf", {}, "", "deaf:cannot_convey"),
    (LOW, {"providers": ("deaf", "fair")}, "deaf fair", {}, "fair", "deaf:cannot_convey"),
    ({"model": "act-three"}, {}, "fair other", {}, "other", "fair:model_not_offered"),
    ({"model": "act-four"}, {}, "fair other", {}, "", "fair:model_not_offered other:model_not_offered"),
    ({"seconds": 31}, {}, "fair", {}, "", "fair:cannot_convey"),
    ({"expression_intensity": 3, "seed": 2**32 - 1}, {}, "fair", {}, "fair", ""),
    # Cheapest: by the declared price and the reference's duration; those alike keep their order.
    ({}, {"policy": "cheapest"}, THREE, {}, "cheap fair dear", ""),
    ({"seconds": 4}, {"policy": "cheapest"}, "floor fair", {}, "fair floor", ""),
    ({"seconds": 30}, {"policy": "cheapest"}, "fair floor", {}, "floor fair", ""),
    ({"seconds": 10}, {"policy": "cheapest"}, "floor fair", {}, "floor fair", ""),
    ({"seconds": 10}, {"policy": "cheapest"}, "fair floor", {}, "fair floor", ""),
    (
        {},
        {"policy": "cheapest", "providers": ("dear", "fair")},
        THREE,
        {},
        "fair dear",
        "cheap:not_requested",
    ),
    ({}, {"policy": "cheapest"}, THREE, {"cheap": BUSY}, "cheap! fair dear", ""),
    # Fastest: by what was measured; after those, by what is declared.
    ({}, {"policy": "fastest"}, THREE, {}, "dear fair cheap", ""),
    ({}, {"policy": "fastest"}, THREE, {"cheap": FAST}, "cheap dear fair", ""),
    ({}, {"policy": "fastest"}, THREE, {"dear": SLOW}, "dear fair cheap", ""),
    ({}, {"policy": "fastest"}, THREE, {"dear": SLOW, "cheap": FAST}, "cheap dear fair", ""),
    ({}, {"policy": "fastest"}, "fair/a fair/b", {"fair/b": FAST}, "fair/b fair/a", ""),
    ({}, {"policy": "fastest"}, "floor fair", {}, "floor fair", ""),
    # Weighted: who weighs nothing comes last; of the rest any order (drawn by the job's id).
    ({}, {"policy": "weighted"}, "fair dear", {"fair": Condition(weight=0)}, "dear fair", ""),
    ({}, {"policy": "weighted"}, "fair dear", {"fair": Condition(weight=1e9)}, "fair dear", ""),
    ({}, {"policy": "weighted"}, "fair dear", {"dear": Condition(weight=1e9)}, "dear fair", ""),
    # Cost limits: exact to the micro-dollar, and no candidate above them.
    ({"seconds": 10}, {"max_cost_usd": 0.5}, THREE, {}, "fair cheap", "dear:too_expensive"),
    (
        {"seconds": 10},
        {"max_cost_usd": 0.499999},
        THREE,
        {},
        "cheap",
        "dear:too_expensive fair:too_expensive",
    ),
    ({"seconds": 10}, {"max_cost_usd": 0.4999999}, "fair", {}, "", "fair:too_expensive"),
    ({"seconds": 10}, {"max_cost_usd": 0.2}, THREE, {}, "cheap", "dear:too_expensive fair:too_expensive"),
    ({}, {"max_cost_usd": 1.5}, THREE, {}, "fair cheap", "dear:too_expensive"),
    ({"seconds": 3}, {"max_cost_usd": 0.3}, "floor fair", {}, "fair", "floor:too_expensive"),
    ({}, {"max_cost_usd": 1e-9}, "cheap", {}, "", "cheap:too_expensive"),
    ({}, {"max_cost_usd": 1.5, "policy": "cheapest"}, THREE, {}, "cheap fair", "dear:too_expensive"),
    # Who can take no job just now keeps its place, and says so.
    ({}, {}, THREE, {"dear": OPEN}, "dear! fair cheap", ""),
    ({}, {}, "fair", {"fair": BUSY}, "fair!", ""),
    ({}, {"exclude": ("dear",)}, "dear fair", {"dear": OPEN}, "fair", "dear:excluded"),
    ({}, {}, "fair/a fair/b", {"fair/a": OPEN}, "fair/a! fair/b", ""),
    # All at once.
    (
        {**LOW, "seconds": 10},
        {"policy": "cheapest", "max_cost_usd": 0.6, "exclude": ("cheap",)},
        "dear fair cheap deaf floor -other",
        {"fair": BUSY},
        "fair! floor",
        "dear:too_expensive cheap:excluded deaf:cannot_convey other:not_enabled",
    ),
]


def asking(seconds: float | None = None, **changes: Any) -> JobRequest:
    reference = Reference(url="https://media.example/v.mp4", duration_s=seconds)
    return a_request(reference=reference, **changes)


def short(provider: str, account: str | None) -> str:
    return provider if account in {None, "default"} else f"{provider}/{account}"


@pytest.mark.parametrize(("wanted", "wish", "there", "known", "order", "out"), TABLE)
def test_plans(*, wanted: dict[str, Any], wish: Wish, there: str, known: Known, order: str, out: str) -> None:
    request = replace(asking(**wanted), routing=RoutingWish(**wish))
    made = plan(request, offered(there), conditions(known), seed="job_1")
    names = [short(one.provider, one.account) + ("!" if one.unavailable else "") for one in made.candidates]
    assert " ".join(names) == order
    assert " ".join(f"{short(one.provider, one.account)}:{one.code}" for one in made.left_out) == out
    assert all(one.reason for one in made.left_out)


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 40


def test_the_run_time_says_whether_it_was_measured() -> None:
    made = plan(asking(), offered("dear fair"), conditions({"fair": FAST}))
    shown = [(one.expected_run_s, one.run_time) for one in made.candidates]
    assert shown == [(30, "declared"), (10, "measured")]


def test_what_is_known_of_an_account_is_told() -> None:
    (one,) = plan(asking(), offered("fair"), conditions({"fair": OPEN})).candidates
    assert (one.unavailable, one.reason, one.until_ms) == ("breaker_open", "5 failures in a row", 1000)


WEIGHTED = asking(routing=RoutingWish(policy="weighted"))


def test_the_weighted_order_of_a_job_stays_the_same() -> None:
    orders = {
        tuple(one.provider for one in plan(WEIGHTED, offered(THREE), seed="job_7").candidates)
        for _ in range(9)
    }
    assert len(orders) == 1
    (order,) = orders
    fewer = plan(WEIGHTED, offered(f"{order[2]} {order[0]}"), seed="job_7").candidates
    assert [one.provider for one in fewer] == [order[0], order[2]], (
        "who else runs changes nothing between two"
    )


def test_who_weighs_thrice_comes_first_thrice_as_often() -> None:
    known = conditions({"fair": Condition(weight=3)})
    firsts = [
        plan(WEIGHTED, offered("dear fair"), known, seed=f"job_{number}").candidates[0].provider
        for number in range(4000)
    ]
    assert abs(firsts.count("fair") / 4000 - 0.75) < 0.03


# --- the paid call that a plan shows, read back from the provider's side ---

ADAPTERS, EMULATIONS = load_adapters().adapters, load_emulations()
ACCOUNTS = Accounts(
    tuple(
        UpstreamAccount(
            adapter=adapter,
            name="default",
            api_key=Secret("key_good"),
            base_url=adapter.spec.base_url,
            options=adapter.spec.default_options(),
        )
        for adapter in ADAPTERS.values()
    )
)
INSTALLED = Catalogue(offers=tuple(Offer(spec=one.spec, account="default") for one in ADAPTERS.values()))

REQUESTS = st.builds(
    a_request,
    character=st.builds(
        Character,
        type=st.sampled_from(CharacterType),
        url=st.sampled_from(["https://media.example/a.png", "https://media.example/ä b?c=1&d"]),
    ),
    reference=st.builds(
        Reference, url=st.just("https://media.example/v.mp4"), duration_s=st.none() | st.floats(3, 30)
    ),
    ratio=st.sampled_from(Ratio),
    body_control=st.booleans(),
    expression_intensity=st.integers(0, 7),
    seed=st.none() | st.integers(-1, 2**33),
    content_moderation=st.builds(ContentModeration, public_figure_threshold=st.sampled_from(Threshold)),
    routing=st.builds(
        RoutingWish,
        providers=st.lists(st.sampled_from(sorted(ADAPTERS)), max_size=3, unique=True).map(tuple),
        exclude=st.lists(st.sampled_from(sorted(ADAPTERS)), max_size=1).map(tuple),
        policy=st.sampled_from(["priority", "cheapest", "fastest", "weighted"]),
        max_cost_usd=st.none() | st.floats(0.1, 3),
    ),
)


@settings(derandomize=True, database=None, deadline=None)
@given(REQUESTS, st.text(max_size=3))
def test_no_option_is_dropped_or_clamped_and_nobody_is_chosen_who_cannot_convey_it(
    request: JobRequest, seed: str
) -> None:
    planned = plan(request, INSTALLED, seed=seed)
    limit, wish = request.routing.max_cost_micro_usd, request.routing
    for one in planned.candidates:
        spec = ADAPTERS[one.provider].spec
        model = spec.model(request.model)
        assert model is not None
        assert unconveyable(model, request) == ()
        assert not wish.providers or one.provider in wish.providers
        assert one.provider not in wish.exclude
        assert limit is None or one.estimated_micro_usd <= limit
        heard = read_back(one.provider, mapped(request, one, ACCOUNTS))
        for path in OPTIONS:
            assert option(heard, path) == option(request, path), f"{one.provider} hears another {path}"
    chosen = [one.provider for one in planned.candidates]
    judged = [*chosen, *(left.provider for left in planned.left_out)]
    assert sorted(judged) == sorted(ADAPTERS)


def read_back(provider: str, shown: Any) -> Any:
    spec = ADAPTERS[provider].spec
    headers = {name.lower(): value for name, value in spec.fixed_headers}
    headers["authorization"] = "Bearer key_good"
    headers["content-type"] = "application/json"
    arrived = WireRequest(
        method=shown.method,
        path=tuple(shown.path.strip("/").split("/")),
        headers=headers,
        body=msgspec.json.encode(shown.body),
    )
    received = EMULATIONS[provider].receive(arrived, Rules())
    assert isinstance(received, Create), received
    return received.request


def test_a_plan_as_shown_names_no_host_and_no_secret() -> None:
    planner = Planner(JobRoutes(catalogue=INSTALLED), ACCOUNTS)
    request = asking()
    document = msgspec.json.encode(planner.show(request, planner.plan(request, seed="")))
    assert b"key_good" not in document
    for adapter in ADAPTERS.values():
        assert adapter.spec.base_url.encode() not in document
