"""The options a client has, by their paths."""

from __future__ import annotations

import msgspec
import pytest

from providers.contract.motion import (
    OPTIONS,
    Character,
    CharacterType,
    ContentModeration,
    MotionRequest,
    Ratio,
    Reference,
    Threshold,
    option,
)

REQUEST = MotionRequest(
    character=Character(type=CharacterType.VIDEO, url="https://a.example/c"),
    reference=Reference(url="https://a.example/r", duration_s=4.0),
    ratio=Ratio.WIDE,
    body_control=False,
    expression_intensity=5,
    content_moderation=ContentModeration(public_figure_threshold=Threshold.LOW),
)

VALUES = {
    "character.type": "video",
    "character.url": "https://a.example/c",
    "reference.type": "video",
    "reference.url": "https://a.example/r",
    "ratio": "1584:672",
    "body_control": False,
    "expression_intensity": 5,
    "seed": None,
    "content_moderation.public_figure_threshold": "low",
}


def test_every_option_is_read_by_its_path() -> None:
    assert {path: option(REQUEST, path) for path in OPTIONS} == VALUES
    assert all(type(option(REQUEST, path)) in {str, int, bool, type(None)} for path in OPTIONS)


def test_the_options_are_every_leaf_of_a_request_that_is_ever_sent() -> None:
    def leaves(document: dict[str, object], at: str = "") -> set[str]:
        found: set[str] = set()
        for name, value in document.items():
            found |= leaves(value, f"{at}{name}.") if isinstance(value, dict) else {at + name}
        return found

    ours = {"model", "reference.duration_s"}
    assert leaves(msgspec.to_builtins(REQUEST)) - ours == set(OPTIONS)


@pytest.mark.parametrize("path", ["character", "content_moderation"])
def test_a_part_is_no_option(path: str) -> None:
    with pytest.raises(TypeError, match=path):
        option(REQUEST, path)


def test_a_ratio_has_a_size() -> None:
    assert {ratio: ratio.size for ratio in Ratio}[Ratio.STANDARD_PORTRAIT] == (832, 1104)
    assert all(width > 0 and height > 0 for width, height in (ratio.size for ratio in Ratio))
