"""Options are conveyed exactly or refused by name; never clamped, never dropped."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from providers.contract.mapping import build_body, spelled, unconveyable
from providers.contract.motion import (
    Character,
    CharacterType,
    ContentModeration,
    MotionRequest,
    Ratio,
    Reference,
    Threshold,
)
from providers.contract.spec import (
    Constant,
    MediaLimits,
    ModelSpec,
    ParamSpec,
    Price,
    Source,
    Standing,
)

SOURCE = Source("made up for a test", "2026-11-21", Standing.INFERRED)


def param(option: str, *field: str, **rest: Any) -> ParamSpec:
    return ParamSpec(option=option, field=field, source=SOURCE, **rest)


MODEL = ModelSpec(
    name="act-two",
    upstream="theirs",
    character_types=(CharacterType.IMAGE,),
    constants=(
        Constant(field=("model",), value="theirs", source=SOURCE),
        Constant(field=("input", "version"), value=2, source=SOURCE),
    ),
    params=(
        param("character.type", implied="image"),
        param("character.url", "input", "image", max_length=40),
        param("reference.type", implied="video"),
        param("reference.url", "input", "video"),
        param("ratio", "input", "aspect", values={"1280:720": "16:9", "720:1280": "9:16"}),
        param("body_control", "input", "body", values={"true": "yes", "false": "no"}),
        param("expression_intensity", "input", "intensity", minimum=1, maximum=5),
        param("seed", "input", "seed", minimum=0),
        param("content_moderation.public_figure_threshold", implied="auto"),
    ),
    reference_min_s=3.0,
    reference_max_s=30.0,
    media=MediaLimits(image_max_bytes=None, video_max_bytes=None, source=SOURCE),
    price=Price(micro_usd_per_s=50_000, source=SOURCE),
    typical_run_s=60.0,
    source=SOURCE,
)
REQUEST = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url="https://a.example/c"),
    reference=Reference(url="https://a.example/r"),
)


def asked(**changes: Any) -> MotionRequest:
    return replace(REQUEST, **changes)


def test_the_body_holds_constants_and_every_option_explicitly() -> None:
    assert build_body(MODEL, asked(seed=0, ratio=Ratio.PORTRAIT, body_control=False)) == {
        "model": "theirs",
        "input": {
            "version": 2,
            "image": "https://a.example/c",
            "video": "https://a.example/r",
            "aspect": "9:16",
            "body": "no",
            "intensity": 3,
            "seed": 0,
        },
    }


def test_a_seed_that_was_not_given_is_left_out() -> None:
    assert "seed" not in str(build_body(MODEL, REQUEST))


def test_the_body_is_new_each_time() -> None:
    first = build_body(MODEL, REQUEST)
    first.clear()
    assert build_body(MODEL, REQUEST) != first


REFUSALS: list[tuple[MotionRequest, str, str, tuple[str, ...]]] = [
    (asked(ratio=Ratio.SQUARE), "ratio", "960:960 is not offered", ("1280:720", "720:1280")),
    (asked(expression_intensity=0), "expression_intensity", "0 is outside 1 to 5", ()),
    (asked(expression_intensity=6), "expression_intensity", "6 is outside 1 to 5", ()),
    (asked(seed=-1), "seed", "-1 is outside the values from 0", ()),
    (
        asked(character=Character(type=CharacterType.VIDEO, url="https://a.example/c")),
        "character.type",
        "a character given as video is not accepted",
        ("image",),
    ),
    (
        asked(character=Character(type=CharacterType.IMAGE, url="https://a.example/" + "c" * 30)),
        "character.url",
        "48 characters are more than 40",
        (),
    ),
    (
        asked(content_moderation=ContentModeration(public_figure_threshold=Threshold.LOW)),
        "content_moderation.public_figure_threshold",
        "the provider has no such option and behaves as auto",
        ("auto",),
    ),
    (
        asked(reference=Reference(url="u", duration_s=2.9)),
        "reference.duration_s",
        "2.9 s is outside 3 to 30 s",
        (),
    ),
    (
        asked(reference=Reference(url="u", duration_s=30.1)),
        "reference.duration_s",
        "30.1 s is outside 3 to 30 s",
        (),
    ),
    (
        asked(reference=Reference(url="u", duration_s=float("nan"))),
        "reference.duration_s",
        "nan s is outside 3 to 30 s",
        (),
    ),
]


@pytest.mark.parametrize(("request_", "option", "reason", "supported"), REFUSALS)
def test_what_cannot_be_conveyed_is_named_once_with_its_reason(
    request_: MotionRequest, option: str, reason: str, supported: tuple[str, ...]
) -> None:
    found = unconveyable(MODEL, request_)
    assert [(each.option, each.reason, each.supported) for each in found] == [(option, reason, supported)]


@pytest.mark.parametrize("request_", [case[0] for case in REFUSALS])
def test_no_body_is_built_for_what_cannot_be_conveyed(request_: MotionRequest) -> None:
    with pytest.raises(ValueError, match=": "):
        build_body(MODEL, request_)


def test_an_option_without_an_entry_is_refused_unless_it_was_not_given() -> None:
    lacking = replace(MODEL, params=tuple(each for each in MODEL.params if each.option != "seed"))
    assert unconveyable(lacking, REQUEST) == ()
    assert unconveyable(lacking, asked(seed=1))[0].reason == "the provider has no such option"


def test_an_option_with_neither_field_nor_meaning_is_refused() -> None:
    params = tuple(param("seed") if each.option == "seed" else each for each in MODEL.params)
    assert (
        unconveyable(replace(MODEL, params=params), asked(seed=1))[0].reason
        == "the provider has no such option"
    )


@pytest.mark.parametrize(
    ("low", "high", "words"), [(None, 5, "up to 5"), (4, None, "from 4"), (4, 5, "4 to 5")]
)
def test_a_range_is_told_by_the_ends_it_has(low: int | None, high: int | None, words: str) -> None:
    seed = param("seed", "seed", minimum=low, maximum=high)
    params = tuple(seed if each.option == "seed" else each for each in MODEL.params)
    value = 3 if low is not None else 6
    assert words in unconveyable(replace(MODEL, params=params), asked(seed=value))[0].reason


def test_a_duration_on_the_bound_is_conveyed() -> None:
    assert all(
        unconveyable(MODEL, asked(reference=Reference(url="u", duration_s=seconds))) == ()
        for seconds in (3.0, 30.0, None)
    )


def test_a_field_through_a_value_is_a_mistake_of_the_table() -> None:
    through = replace(MODEL, params=(*MODEL.params, param("ratio", "model", "size")))
    with pytest.raises(TypeError, match=r"model\.size goes through model"):
        build_body(through, REQUEST)


def test_values_are_spelled_as_json_spells_them() -> None:
    assert [spelled(value) for value in (True, False, 3, "1280:720")] == ["true", "false", "3", "1280:720"]
