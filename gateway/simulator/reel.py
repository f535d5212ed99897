"""MP4 out and back: encode pictures as H.264, and say what an MP4 holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import msgspec
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from PIL import Image

from gateway.simulator.footage import Shot, load_clip, play

# Constrained baseline plays everywhere; ultrafast costs bytes, not seconds.
_X264 = {"preset": "ultrafast", "profile": "baseline", "crf": "23"}
# Untagged, players take HD for BT.709 and less for BT.601; we convert to BT.709 and say so (H.273, value 1).
_BT709 = 1
_LIMITED_RANGE = 1


class Film(msgspec.Struct, frozen=True):
    """What decoding every frame of a video showed: size in pixels as shown, codec in FFmpeg's words."""

    width: int
    height: int
    duration_s: float
    codec: str
    frames: int


def probe(source: bytes | Path) -> Film:
    """Decode a whole video and describe it; a path is read first, so it is never taken for an address.

    Raises:
        UnreadableMedia: It does not decode to its end, or is above the limits in `footage`.
        OSError: The path cannot be read.
    """
    clip = load_clip("film", source if isinstance(source, bytes) else source.read_bytes())
    frames = 0
    end_s = 0.0
    for shot in play(clip):
        frames += 1
        end_s = shot.end_s
    return Film(width=clip.width, height=clip.height, duration_s=end_s, codec=clip.codec, frames=frames)


def at_rate(shots: Iterable[Shot], rate: Fraction) -> Iterator[VideoFrame]:
    """Resample by time: at each tick of 1/rate seconds the frame on screen, ended at the nearest tick."""
    tick = 0
    held: Shot | None = None
    for shot in shots:
        while held is not None and tick / rate < shot.start_s:
            yield held.frame
            tick += 1
        held = shot
    if held is None:
        return
    for _ in range(tick, max(1, round(held.end_s * rate))):
        yield held.frame


def check_size(width: int, height: int) -> None:
    """Raise ValueError for a size in pixels that 4:2:0 video cannot have."""
    if width <= 0 or height <= 0 or width % 2 or height % 2:
        raise ValueError(f"4:2:0 video needs even sizes, not {width}x{height}")


def encode(pictures: Iterable[Image.Image], *, width: int, height: int, rate: Fraction) -> bytes:
    """Encode RGB pictures of width x height pixels (both even), `rate` a second, as an H.264 MP4.

    One encoder thread, so the same pictures give the same bytes on every machine with this FFmpeg.

    Raises:
        ValueError: An odd size.
    """
    check_size(width, height)
    # Faststart reopens the output by name to move the index to the front, which memory cannot offer.
    with tempfile.TemporaryDirectory(prefix="motion-gateway-") as folder:
        path = Path(folder, "film.mp4")
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(path, "w", format="mp4", options=options) as container:
            stream = _add_stream(container, width, height, rate)
            for frame in chain(_frames(pictures, rate), [None]):  # None drains the encoder
                container.mux(stream.encode(frame))  # pyright: ignore[reportUnknownMemberType] - PyAV's stub
        return path.read_bytes()


def _add_stream(container: OutputContainer, width: int, height: int, rate: Fraction) -> VideoStream:
    stream = container.add_stream(  # pyright: ignore[reportUnknownMemberType] - PyAV's stub leaves kwargs open
        "libx264", rate=rate, options=_X264
    )
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    coder = stream.codec_context
    coder.thread_count = 1
    coder.gop_size = round(rate * 2)
    coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
    coder.color_range = _LIMITED_RANGE
    return stream


def _frames(pictures: Iterable[Image.Image], rate: Fraction) -> Iterator[VideoFrame]:
    for count, image in enumerate(pictures):
        raw = VideoFrame(image.width, image.height, "rgb24")
        raw.planes[0].update(image.tobytes("raw", "RGB", raw.planes[0].line_size))
        frame = raw.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = count, 1 / rate
        yield frame
