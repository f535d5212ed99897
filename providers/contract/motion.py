"""What a client asks for: a character performs what a reference video shows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Literal

from msgspec import Struct


class CharacterType(StrEnum):
    """What the character is given as."""

    IMAGE = "image"
    VIDEO = "video"


class Ratio(StrEnum):
    """Output width and height in pixels; the six that all three Act-Two wires accept."""

    LANDSCAPE = "1280:720"
    PORTRAIT = "720:1280"
    SQUARE = "960:960"
    STANDARD = "1104:832"
    STANDARD_PORTRAIT = "832:1104"
    WIDE = "1584:672"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        width, _, height = self.value.partition(":")
        return int(width), int(height)


class Threshold(StrEnum):
    """How strictly recognisable public figures are refused; `low` is the laxer."""

    AUTO = "auto"
    LOW = "low"


class Character(Struct, frozen=True, kw_only=True):
    """Who performs."""

    type: CharacterType
    url: str


class Reference(Struct, frozen=True, kw_only=True):
    """The performance to follow, a video of 3 to 30 seconds."""

    url: str
    type: Literal["video"] = "video"
    duration_s: float | None = None


class ContentModeration(Struct, frozen=True, kw_only=True):
    """How the provider is to moderate."""

    public_figure_threshold: Threshold = Threshold.AUTO


class MotionRequest(Struct, frozen=True, kw_only=True):
    """One motion transfer, every default filled in."""

    character: Character
    reference: Reference
    model: str = "act-two"
    ratio: Ratio = Ratio.LANDSCAPE
    body_control: bool = True
    expression_intensity: int = 3
    seed: int | None = None
    content_moderation: ContentModeration = ContentModeration()


#: Every option an adapter must either convey or be left out for, as a path into MotionRequest.
#: `reference.duration_s` is not among them: it serves our own cost estimate and is never sent.
OPTIONS = (
    "character.type",
    "character.url",
    "reference.type",
    "reference.url",
    "ratio",
    "body_control",
    "expression_intensity",
    "seed",
    "content_moderation.public_figure_threshold",
)

_GETTERS = {path: attrgetter(path) for path in OPTIONS}

Option = str | int | bool | None
"""The value of an option."""


def option(request: MotionRequest, path: str) -> Option:
    """Return the value of one of `OPTIONS`."""
    if path not in _GETTERS:
        raise TypeError(f"{path} is not an option but a part that holds options")
    return options(request)[path]


@lru_cache(maxsize=64)
def options(request: MotionRequest) -> Mapping[str, Option]:
    """Return every option by its path. Kept for a while: each provider is asked about the same request."""
    return {path: _read(path, get(request)) for path, get in _GETTERS.items()}


def _read(path: str, value: object) -> Option:
    if isinstance(value, str):
        return str(value)  # of a StrEnum, its value
    if value is None or isinstance(value, int):
        return value
    raise TypeError(f"{path} is not an option but a part that holds options")
