"""What moves in a performance, as three small numbers a frame; no pictures are made here."""

from __future__ import annotations

from fractions import Fraction
from math import exp, tanh

import msgspec
from PIL import Image

_ACROSS, _DOWN = 32, 18
_BOX = Image.Resampling.BOX
_NOISE = 12  # grey levels out of 255: compression shimmer, not movement
_BACKGROUND_S = 4.0
_HOME_S = 2.0
_SMOOTH_S = 0.12
_GAIN = 7.0


class Pose(msgspec.Struct, frozen=True):
    """How the character stands: lean right and bob up from -1 to 1, swell towards the viewer from 0 to 1."""

    lean: float
    bob: float
    swell: float


class Performer:
    """Follows a performance one picture at a time.

    A slow average of past pictures stands for the background. What differs from it is the mover; the mover's
    centre, against where it has been lately, leans and bobs the character, and how much it changes swells it.
    """

    def __init__(self, rate: Fraction) -> None:
        """Start at rest; `rate` is how many pictures a second will be followed."""
        self._forget = _share(_BACKGROUND_S, rate)
        self._settle = _share(_HOME_S, rate)
        self._ease = _share(_SMOOTH_S, rate)
        self._rate = float(rate)
        self._background: list[float] = []
        self._before: bytes = b""
        self._home: tuple[float, float] | None = None
        self._pose = Pose(lean=0.0, bob=0.0, swell=0.0)

    def follow(self, picture: Image.Image) -> Pose:
        """Take the next picture (any size and mode) and answer the pose it asks for, smoothed over 0.12 s."""
        grey = picture.convert("L")
        tiny = grey.resize((_ACROSS, _DOWN), _BOX)  # pyright: ignore[reportUnknownMemberType] - names numpy
        small = tiny.tobytes()
        if not self._background:
            self._background, self._before = [float(level) for level in small], small
        centre = self._centre(small)
        change = sum(abs(now - was) for now, was in zip(small, self._before, strict=True)) / len(small)
        self._before = small
        lean = bob = 0.0
        if centre is not None:
            across, up = centre
            home_across, home_up = self._home or centre
            lean, bob = tanh((across - home_across) * _GAIN), tanh((up - home_up) * _GAIN)
            self._home = (
                home_across + (across - home_across) * self._settle,
                home_up + (up - home_up) * self._settle,
            )
        self._pose = Pose(
            lean=self._pose.lean + (lean - self._pose.lean) * self._ease,
            bob=self._pose.bob + (bob - self._pose.bob) * self._ease,
            swell=self._pose.swell + (tanh(change * self._rate / 60) - self._pose.swell) * self._ease,
        )
        return self._pose

    def _centre(self, small: bytes) -> tuple[float, float] | None:
        """The mover's place, right and up from the middle in halves of the frame; None when nothing moves."""
        weights = [max(0.0, abs(now - b) - _NOISE) for now, b in zip(small, self._background, strict=True)]
        forget = self._forget
        self._background = [b + (now - b) * forget for now, b in zip(small, self._background, strict=True)]
        total = sum(weights)
        if total < _NOISE:
            return None
        across = sum(weight * (place % _ACROSS) for place, weight in enumerate(weights)) / total
        down = sum(weight * (place // _ACROSS) for place, weight in enumerate(weights)) / total
        return 2 * across / (_ACROSS - 1) - 1, 1 - 2 * down / (_DOWN - 1)


def _share(seconds: float, rate: Fraction) -> float:
    """The share of the distance a running average covers in one picture, for a time constant in seconds."""
    return 1 - exp(-1 / (seconds * float(rate)))
