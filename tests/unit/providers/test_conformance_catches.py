"""Every check over declared tables catches the adapter that breaks it; one that cannot fail is a defect."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from providers.conformance.declared import check_declared
from providers.contract.adapter import Adapter
from providers.contract.errors import ErrorCode
from providers.contract.motion import CharacterType
from providers.contract.spec import (
    AuthSpec,
    Constant,
    FailureRule,
    OptionSpec,
    ParamSpec,
    Source,
    Standing,
    StatusWord,
)
from providers.contract.status import JobStatus
from providers.runway import adapter as good

SOURCE = Source("made up for a test", "2026-11-21", Standing.INFERRED)
MODEL = good.spec.models[0]


def with_spec(**changes: Any) -> Adapter:
    return replace(good, spec=replace(good.spec, **changes))


def with_model(**changes: Any) -> Adapter:
    return with_spec(models=(replace(MODEL, **changes),))


def with_param(option: str, **changes: Any) -> Adapter:
    params = tuple(replace(param, **changes) if param.option == option else param for param in MODEL.params)
    return with_model(params=params)


def with_poll(**changes: Any) -> Adapter:
    return with_spec(poll=replace(good.spec.poll, **changes))


def with_rules(*rules: FailureRule) -> Adapter:
    return with_spec(failures=rules)


def with_words(*words: StatusWord) -> Adapter:
    return with_spec(statuses=(*good.spec.statuses, *words))


def without_words(status: JobStatus) -> Adapter:
    return with_spec(statuses=tuple(word for word in good.spec.statuses if word.means is not status))


def rule(code: ErrorCode = ErrorCode.PROVIDER_ERROR, **conditions: Any) -> FailureRule:
    return FailureRule(code=code, source=SOURCE, **conditions)


def choice(name: str, *values: str, meaning: str = "how it is done") -> OptionSpec:
    return OptionSpec(name=name, values=values, meaning=meaning, source=SOURCE)


IDENTITY: list[tuple[Adapter, str, str]] = [
    (with_spec(contract_version=99), "contract-version", "99"),
    (with_spec(name="Run-Way"), "name", "Run-Way"),
    (with_spec(name=""), "name", "lower-case"),
    (with_spec(title=" "), "name", "spec.title"),
    (with_spec(base_url="http://api.example"), "base-url", "https"),
    (with_spec(base_url="https://"), "base-url", "host"),
    (with_spec(base_url="https://api.example/"), "base-url", "slash"),
    (with_spec(base_url="https://api.example?key=1"), "base-url", "query"),
    (with_spec(base_url="https://user@api.example"), "base-url", "user"),
    (with_spec(base_url="https://[api.example"), "base-url", "no URL"),
    (with_spec(base_url="https://api.example:port"), "base-url", "no URL"),
    (with_spec(key_env="runway-key"), "env", "spec.key_env"),
    (with_spec(base_url_env=""), "env", "spec.base_url_env"),
    (with_spec(base_url_env=good.spec.key_env), "env", "the key's variable"),
    (with_spec(poll_timeout_s="10"), "types", "poll_timeout_s"),
    (with_spec(models=None), "types", "models"),
]

ACCESS: list[tuple[Adapter, str, str]] = [
    (with_spec(auth=AuthSpec("X Key", "", SOURCE)), "auth", "spec.auth"),
    (with_spec(auth=AuthSpec("X-Key", "a\r\nb", SOURCE)), "auth", "spec.auth"),
    (with_spec(auth_choices={"other": good.spec.auth}), "auth", "never be chosen"),
    (with_spec(options=(choice("auth", "bearer", "other"),)), "auth", "changes nothing"),
    (with_spec(fixed_headers=(("Authorization", "x"),)), "fixed-headers", "credential"),
    (with_spec(fixed_headers=(("X-Api-Key", "x"),)), "fixed-headers", "credential"),
    (with_spec(fixed_headers=(("X-Mine", "Bearer x"),)), "fixed-headers", "credential"),
    (with_spec(fixed_headers=(("Host", "x"),)), "fixed-headers", "set by the gateway"),
    (with_spec(fixed_headers=(("X-A", "1"), ("x-a", "2"))), "fixed-headers", "twice"),
    (with_spec(fixed_headers=(("X-A", "1\n"),)), "fixed-headers", "cannot be sent"),
    (with_spec(fixed_headers=(("X A", "1"),)), "fixed-headers", "cannot be sent"),
    (with_spec(options=(choice("Path", "a"),)), "options", "lower-case"),
    (with_spec(options=(choice("path", "a", "a"),)), "options", "differ"),
    (with_spec(options=(choice("path", "a"), choice("path", "b"))), "options", "twice"),
    (with_spec(options=(choice("path", "a", meaning=""),)), "options", "meaning"),
]

TERMS: list[tuple[Adapter, str, str]] = [
    (with_poll(floor_s=0.0), "durations", "poll.floor_s"),
    (with_poll(first_s=1.0), "poll", "floor_s <= first_s"),
    (with_poll(interval_s=1.0), "poll", "floor_s <= interval_s"),
    (with_poll(later_s=5.5), "poll", "interval_s <= later_s"),
    (with_poll(slow_s=5.5), "poll", "interval_s <= slow_s"),
    (with_poll(later_after_s=-1.0), "poll", "0 <= later_after_s"),
    (with_poll(jitter=1.5), "poll", "jitter"),
    (with_poll(jitter=-0.1), "poll", "jitter"),
    (with_poll(later_s=math.inf), "poll", "not finite"),
    (with_spec(submit_timeout_s=0.0), "durations", "submit_timeout_s"),
    (with_spec(poll_timeout_s=math.inf), "durations", "poll_timeout_s"),
    (with_spec(longest_run_s=10), "durations", "typical run"),
    (with_spec(micro_usd_per_credit=0), "durations", "micro_usd_per_credit"),
    (with_spec(output=replace(good.spec.output, life_s=0)), "durations", "output.life_s"),
    (with_spec(output=replace(good.spec.output, content_type="text/html")), "output", "videos"),
    (with_spec(cancel=None), "cancel", "both be there"),
    (replace(good, build_cancel=None), "cancel", "both be there"),
]

MODELS: list[tuple[Adapter, str, str]] = [
    (with_spec(models=()), "models", "at least one"),
    (with_spec(models=(MODEL, MODEL)), "models", "twice"),
    (with_model(name="Act Two"), "models", "lower case"),
    (with_model(upstream=""), "models", "both names"),
    (with_model(reference_min_s=0.0), "durations", "above 0"),
    (with_model(reference_max_s=2.0), "durations", "no less"),
    (with_model(reference_max_s=math.inf), "durations", "inf"),
    (with_model(typical_run_s=-1.0), "durations", "typically"),
    (with_model(price=replace(MODEL.price, micro_usd_per_s=0)), "price", "above 0"),
    (with_model(price=replace(MODEL.price, minimum_micro_usd=-1)), "price", "least"),
    (with_model(media=replace(MODEL.media, image_max_bytes=0)), "media", "image_max_bytes"),
    (with_model(character_types=()), "character-types", "()"),
    (with_model(character_types=(CharacterType.IMAGE,) * 2), "character-types", "each once"),
    (with_model(params=MODEL.params[:-1]), "params", "has no entry"),
    (
        with_model(params=(*MODEL.params, ParamSpec(option="prompt", source=SOURCE))),
        "params",
        "no option of ours",
    ),
    (with_model(params=(*MODEL.params, replace(MODEL.params[4], field=("size",)))), "params", "two entries"),
    (with_param("ratio", values={}), "params", "empty table"),
    (with_param("ratio", values={"16:9": "wide"}), "params", "never asked for"),
    (with_param("body_control", values={"yes": True}), "params", "never asked for"),
    (with_param("ratio", field=(), implied="1280:720"), "params", "no field to send"),
    (with_param("expression_intensity", implied="much"), "params", "no value of this option"),
    (with_param("ratio", implied="16:9"), "params", "no value of this option"),
    (with_param("ratio", minimum=1), "params", "is no number"),
    (with_param("seed", minimum=5, maximum=1), "params", "above its maximum"),
    (with_param("seed", max_length=3), "params", "length limit"),
    (with_param("character.url", field=()), "params", "plain request cannot be conveyed"),
    (with_param("expression_intensity", maximum=2), "params", "plain request cannot be conveyed"),
    (with_param("seed", field=("ratio",)), "fields", "writes ratio over"),
    (with_param("seed", field=("character", "type", "seed")), "fields", "over what"),
    (with_param("seed", field=("reference",)), "fields", "over what"),
    (with_param("seed", field=("",)), "fields", "empty field name"),
    (
        with_model(constants=(*MODEL.constants, Constant(field=("ratio",), value="x", source=SOURCE))),
        "fields",
        "over what",
    ),
]

WORDS: list[tuple[Adapter, str, str]] = [
    *((without_words(status), "status-words", f"no word means {status}") for status in list(JobStatus)[:4]),
    (with_words(StatusWord("pending", JobStatus.QUEUED, SOURCE)), "status-words", "stands twice"),
    (with_words(StatusWord(" DONE", JobStatus.SUCCEEDED, SOURCE)), "status-words", "blanks"),
    (with_words(StatusWord("", JobStatus.QUEUED, SOURCE)), "status-words", "empty"),
    (with_words(StatusWord("DONE", JobStatus.SUCCEEDED, SOURCE, slow=True)), "status-words", "slow"),
    (with_rules(rule()), "failure-rules", "no condition"),
    (with_rules(rule(message_contains=" ")), "failure-rules", "empty condition"),
    (with_rules(rule(provider_code="")), "failure-rules", "empty condition"),
    (with_rules(rule(http_status=200)), "failure-rules", "HTTP 200"),
    (with_rules(rule(ErrorCode.PROVIDER_LOST, http_status=404)), "failure-rules", "only the gateway"),
    (with_rules(rule(http_status=400), rule(http_status=400)), "failure-rules", "rule 0"),
    (
        with_rules(rule(http_status=400), rule(http_status=400, message_contains="a")),
        "failure-rules",
        "rule 0",
    ),
    (with_rules(rule(provider_code="A."), rule(provider_code="A.B")), "failure-rules", "rule 0"),
    (with_rules(rule(provider_code="A."), rule(provider_code="A.B.")), "failure-rules", "rule 0"),
    (with_rules(rule(provider_code="A."), rule(provider_code="A")), "failure-rules", "rule 0"),
    (with_rules(rule(message_contains="X"), rule(message_contains="no x")), "failure-rules", "rule 0"),
]

SOURCES: list[tuple[Adapter, str, str]] = [
    (with_spec(source=Source("", "2026-11-21", Standing.DOCS)), "sources", "names no place"),
    (with_model(source=Source("docs", "November", Standing.DOCS)), "sources", "November"),
    (with_param("seed", source=Source("docs", "21.11.2026", Standing.DOCS)), "sources", "params[seed]"),
    (
        with_spec(poll=replace(good.spec.poll, source=Source(" ", "2026-11-21", Standing.DOCS))),
        "sources",
        "poll",
    ),
]


@pytest.mark.parametrize(
    ("bad", "check", "words"),
    [
        pytest.param(*case, id=f"{case[1]}-{case[2]}")
        for case in (*IDENTITY, *ACCESS, *TERMS, *MODELS, *WORDS, *SOURCES)
    ],
)
def test_a_bad_table_is_caught_by_its_check(bad: Adapter, check: str, words: str) -> None:
    found = [finding for finding in check_declared(bad) if finding.check == f"declared.{check}"]
    assert any(words in str(finding) for finding in found), [str(finding) for finding in check_declared(bad)]


def test_the_adapter_the_bad_ones_are_made_from_is_good() -> None:
    assert check_declared(good) == ()


@pytest.mark.parametrize(
    "rules",
    [
        (rule(provider_code="A.B"), rule(provider_code="A.")),
        (rule(provider_code="A."), rule(provider_code="AB")),
        (rule(http_status=400, message_contains="a"), rule(http_status=400)),
        (rule(http_status=400), rule(http_status=403)),
        (rule(provider_code="A"), rule(http_status=400)),
        (rule(http_status=400, message_contains="credits"), rule(http_status=400, message_contains="asset")),
    ],
)
def test_rules_from_the_narrow_to_the_wide_shadow_nothing(rules: tuple[FailureRule, ...]) -> None:
    assert check_declared(with_rules(*rules)) == ()


def test_a_provider_without_cancel_and_with_a_choice_of_auth_can_be_good() -> None:
    key = AuthSpec("X-Key", "", SOURCE)
    spec = replace(
        good.spec, cancel=None, options=(choice("auth", "bearer", "key"),), auth_choices={"key": key}
    )
    assert check_declared(replace(good, spec=spec, build_cancel=None)) == ()


def test_an_option_the_provider_has_not_is_declared_without_a_field() -> None:
    silent = with_param("body_control", field=(), implied=True)
    assert check_declared(silent) == ()
