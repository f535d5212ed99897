"""The sample inputs of the demo and the README, drawn by code: a character and a performance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from io import BytesIO
from math import cos, pi, sin
from types import MappingProxyType

from PIL import Image, ImageDraw

from gateway.simulator.reel import encode

SAMPLE_HOST = "samples.motion-gateway.example"
"""The https host whose media are ours and need no fetching (.example is reserved by RFC 2606)."""

_FINE = 2  # everything is drawn at twice its size and halved, for smooth edges

_SIDE = 768
_WALL, _HALO = (124, 108, 210), (150, 136, 230)
_SKIN, _SHADE, _BLUSH, _HAIR = (250, 190, 146), (226, 158, 118), (240, 140, 120), (72, 44, 40)
_JUMPER, _COLLAR = (34, 150, 140), (24, 116, 108)
_WHITE, _DARK, _LIPS = (255, 255, 255), (40, 30, 40), (190, 60, 70)

_WIDE, _TALL, _RATE = 640, 360, Fraction(24)
_ROOM, _FLOOR = (226, 232, 238), (196, 206, 216)
_SUIT, _TROUSERS, _FACE = (214, 70, 60), (44, 58, 92), (236, 176, 132)


@cache
def sample_character() -> bytes:
    """A drawn person, face to the viewer, as a PNG of 768 x 768 pixels.

    Eyes and mouth lie within the middle 40 % of the height, so that every ratio's crop keeps them.
    """
    canvas = Image.new("RGB", (_SIDE * _FINE, _SIDE * _FINE), _WALL)
    pen = _Pen(canvas)
    pen.disc(384, 392, 300, 300, _HALO)
    pen.disc(384, 776, 250, 250, _JUMPER)
    pen.disc(384, 546, 74, 46, _COLLAR)
    pen.line([(384, 470), (384, 540)], 82, _SHADE)
    pen.draw.chord(pen.box(384, 352, 146, 156), 165, 375, fill=_HAIR)
    for side in (-1, 1):
        pen.disc(384 + side * 130, 394, 24, 31, _SKIN)
    pen.disc(384, 390, 127, 138, _SKIN)
    pen.draw.chord(pen.box(384, 330, 136, 92), 175, 365, fill=_HAIR)
    for side in (-1, 1):
        _draw_eye(pen, 384 + side * 50, 384, side)
        pen.disc(384 + side * 80, 432, 21, 13, _BLUSH)
    pen.disc(384, 416, 11, 9, _BLUSH)
    pen.draw.chord(pen.box(384, 438, 50, 44), 0, 180, fill=_LIPS)
    pen.draw.chord(pen.box(384, 438, 40, 16), 0, 180, fill=_WHITE)
    file = BytesIO()
    canvas.reduce(_FINE).save(file, "PNG")
    return file.getvalue()


@cache
def sample_performance(duration_s: float = 4.0) -> bytes:
    """A figure that sways and waves, as an MP4 of 640 x 360 pixels at 24 frames a second.

    Args:
        duration_s: Length in seconds, rounded to whole frames.

    Raises:
        ValueError: Shorter than one frame.
    """
    frames = round(duration_s * _RATE)
    if frames < 1:
        raise ValueError(f"a performance of {duration_s} s has no frame")
    return encode(_performance(frames), width=_WIDE, height=_TALL, rate=_RATE)


SAMPLES: Mapping[str, tuple[str, Callable[[], bytes]]] = MappingProxyType(
    {
        "/character.png": ("image/png", sample_character),
        "/performance.mp4": ("video/mp4", sample_performance),
    }
)
"""Path on SAMPLE_HOST -> content type and the function that makes the file (kept after the first call)."""


class _Pen:
    """Draws in the sample's own pixels on a canvas that is finer."""

    def __init__(self, canvas: Image.Image) -> None:
        self.draw = ImageDraw.Draw(canvas)

    def box(self, x: float, y: float, across: float, down: float) -> tuple[float, float, float, float]:
        return ((x - across) * _FINE, (y - down) * _FINE, (x + across) * _FINE, (y + down) * _FINE)

    def disc(self, x: float, y: float, across: float, down: float, fill: tuple[int, int, int]) -> None:
        self.draw.ellipse(self.box(x, y, across, down), fill=fill)

    def line(self, points: list[tuple[float, float]], width: float, fill: tuple[int, int, int]) -> None:
        fine = [(x * _FINE, y * _FINE) for x, y in points]
        self.draw.line(fine, fill=fill, width=round(width * _FINE), joint="curve")
        for x, y in (points[0], points[-1]):
            self.disc(x, y, width / 2, width / 2, fill)


def _draw_eye(pen: _Pen, x: float, y: float, side: int) -> None:
    pen.disc(x, y, 26, 30, _WHITE)
    pen.disc(x - side * 3, y + 4, 14, 17, _DARK)
    pen.disc(x - side * 3 + 6, y - 3, 5, 6, _WHITE)
    pen.draw.arc(pen.box(x, y - 20, 30, 24), 215, 325, fill=_HAIR, width=8 * _FINE)


def _performance(frames: int) -> Iterator[Image.Image]:
    for count in range(frames):
        canvas = Image.new("RGB", (_WIDE * _FINE, _TALL * _FINE), _ROOM)
        pen = _Pen(canvas)
        pen.draw.rectangle((0, 300 * _FINE, _WIDE * _FINE, _TALL * _FINE), fill=_FLOOR)
        _figure(pen, float(count / _RATE))
        yield canvas.reduce(_FINE)


def _figure(pen: _Pen, at_s: float) -> None:
    """One pose: a sway every two seconds, a wave every two thirds, a nod every second."""
    sway = sin(pi * at_s)
    x, hip, shoulder = 320 + 70 * sway, 262.0, 158 - 8 * abs(sway)
    for side in (-1, 1):
        pen.line([(x + side * 16, hip), (320 + side * 34 + 30 * sway, 345)], 24, _TROUSERS)
    pen.line([(x, hip - 10), (x + 12 * sway, shoulder + 12)], 66, _SUIT)
    head_x, head_y = x + 24 * sway, shoulder - 62 + 5 * sin(2 * pi * at_s)
    pen.line([(x + 14 * sway, shoulder), (head_x, head_y + 20)], 20, _FACE)
    pen.disc(head_x, head_y, 38, 42, _FACE)
    pen.draw.pieslice(pen.box(head_x, head_y - 8, 41, 40), 180, 360, fill=_HAIR)
    for side in (-1, 1):
        pen.disc(head_x + side * 14 + 4 * sway, head_y + 2, 4, 5, _DARK)
    pen.disc(head_x + 4 * sway, head_y + 22, 10, 3 + 4 * abs(sin(3 * pi * at_s)), _LIPS)
    for side, turn in ((1, 0.5 * sin(3 * pi * at_s)), (-1, -1.5 + 0.5 * sway)):
        _arm(pen, x + 12 * sway + side * 36, shoulder + 10, side, turn)


def _arm(pen: _Pen, x: float, y: float, side: int, turn: float) -> None:
    """From the shoulder at (x, y): the elbow out to the side, the forearm up, turned by `turn` radians."""
    elbow = (x + side * 52, y + 14 - 18 * turn)
    hand = (elbow[0] + side * 66 * sin(0.35 - turn), elbow[1] - 66 * cos(0.35 - turn))
    pen.line([(x, y), elbow, hand], 20, _SUIT)
    pen.disc(hand[0], hand[1], 15, 15, _FACE)
