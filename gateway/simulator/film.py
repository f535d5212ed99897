"""The simulator's product: a real MP4 made from the very inputs a job was given, marked SIMULATED."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat

from PIL import Image

from gateway.simulator.footage import (
    MAX_PIXELS,
    MAX_REFERENCE_S,
    Clip,
    Shot,
    UnreadableMedia,
    load_clip,
    load_still,
    picture,
    play,
)
from gateway.simulator.motion import Performer
from gateway.simulator.reel import Film, at_rate, check_size, encode, probe
from gateway.simulator.stage import Stage

__all__ = ["Film", "UnreadableMedia", "probe", "render"]

_FASTEST = Fraction(24)
# Slower references are shown at this rate: whole frames of 1/12 s keep the length within 0.05 s of theirs.
_SLOWEST = Fraction(12)

_STILL_FINENESS = 2.0
_VIDEO_FINENESS = 1.5  # scaled anew for every frame
_SHORTEST_LOOP_S = 1.0  # a clip of a microsecond must not be opened a million times a second


def render(*, character: bytes, reference: bytes, width: int, height: int, label: str) -> bytes:
    """Make the film of a character performing a reference.

    The character (PNG, JPEG, WebP or a video, looped) fills the frame, cropped from its centre, and moves
    with what moves in the reference; the reference plays in the corner; a band says SIMULATED and the label.

    Args:
        character: The character's file, at most 64 MiB and 40 megapixels.
        reference: The performance's file, a video of at most 35 s, 64 MiB and 40 megapixels.
        width: Of the film, in pixels, even.
        height: Of the film, in pixels, even.
        label: Shown in the band on one line, cut where it does not fit.

    Returns:
        An MP4, H.264 baseline 4:2:0 without sound, index first, as long as the reference (to half a frame),
        at the reference's frame rate brought between 12 and 24.

    Raises:
        UnreadableMedia: An input that cannot be decoded or is above the bounds; says which and why.
        ValueError: An odd or empty size.
    """
    check_size(width, height)
    performance = load_clip("reference", reference)
    rate = min(max(performance.frame_rate, _SLOWEST), _FASTEST).limit_denominator(1001)
    stage = Stage(width=width, height=height, reference=(performance.width, performance.height), label=label)
    pictures = _frames(stage, _backdrops(character, stage, rate), performance, rate)
    return encode(pictures, width=width, height=height, rate=rate)


def _frames(
    stage: Stage, backdrops: Iterator[Image.Image], performance: Clip, rate: Fraction
) -> Iterator[Image.Image]:
    performer = Performer(rate)
    frames = at_rate(play(performance, limit_s=MAX_REFERENCE_S), rate)
    for frame, backdrop in zip(frames, backdrops, strict=False):
        inset = picture(frame, *stage.inset_size)
        yield stage.compose(backdrop, inset, performer.follow(inset))


def _backdrops(character: bytes, stage: Stage, rate: Fraction) -> Iterator[Image.Image]:
    """The character at every tick, for ever: an image holds still, a video starts over at its end."""
    still = load_still("character", character)
    if still is not None:
        return repeat(stage.backdrop(still, _STILL_FINENESS))
    clip = load_clip("character", character)
    scale = _VIDEO_FINENESS * max(stage.width / clip.width, stage.height / clip.height)
    size = (round(clip.width * scale), round(clip.height * scale))
    if size[0] * size[1] > MAX_PIXELS:
        raise UnreadableMedia("character", f"{clip.width}x{clip.height} is too thin to fill the film")
    frames = at_rate(_looped(clip), rate)
    return (stage.backdrop(picture(frame, *size), _VIDEO_FINENESS) for frame in frames)


def _looped(clip: Clip) -> Iterator[Shot]:
    """The clip over and over; one shorter than a second holds its last frame until then."""
    begun_s = 0.0
    while True:
        ended_s = 0.0
        for shot in play(clip):
            ended_s = shot.end_s
            yield Shot(frame=shot.frame, start_s=begun_s + shot.start_s, end_s=begun_s + shot.end_s)
        begun_s += max(ended_s, _SHORTEST_LOOP_S)
