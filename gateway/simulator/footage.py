"""Reading what a caller sent: bytes in, upright pictures out, with bounds on what we will decode."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from math import inf

import av
import msgspec
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 40_000_000
MAX_REFERENCE_S = 35.0
# 35 s at 120 frames a second: timestamps that never advance must not keep us decoding.
MAX_FRAMES = 4_200

# FFmpeg reads playlists too (HLS, concat), and those open further files and addresses by themselves.
# Only containers that hold their own media are let in.
_CONTAINERS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,avi,flv,mpeg,mpegts"}
_STILLS = ("JPEG", "PNG", "WEBP")
_UPRIGHT = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
_USUAL_RATE = Fraction(24)


class UnreadableMedia(ValueError):
    """An input that cannot be decoded, or is more than we decode.

    Attributes:
        which: The input's name, such as `character` or `reference`.
        why: What is wrong with it, for the caller.
    """

    def __init__(self, which: str, why: str) -> None:
        super().__init__(f"{which}: {why}")
        self.which = which
        self.why = why


class Shot(msgspec.Struct, frozen=True):
    """One decoded frame and when it is on screen, in seconds from the clip's first frame."""

    frame: VideoFrame
    start_s: float
    end_s: float


class Clip(msgspec.Struct, frozen=True):
    """A video that was opened once: its size as shown (rotation applied), average frame rate and codec.

    `declared_s` is the length its header claims, 0 when it claims none; only decoding tells the true one.
    """

    which: str
    data: bytes
    width: int
    height: int
    frame_rate: Fraction
    codec: str
    declared_s: float


def load_still(which: str, data: bytes) -> Image.Image | None:
    """Decode a PNG, JPEG or WebP, upright, as RGB or RGBA; None when the bytes are no such image.

    Raises:
        UnreadableMedia: Above 64 MiB or 40 megapixels, or damaged.
    """
    _check_size(which, data)
    try:
        image = Image.open(io.BytesIO(data), formats=_STILLS)
        _check_pixels(which, image.width, image.height)
        upright = ImageOps.exif_transpose(image)
        return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except UnidentifiedImageError:
        return None
    except UnreadableMedia:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableMedia(which, "the picture is above 40 megapixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableMedia(which, f"the image cannot be decoded ({error})") from error


def load_clip(which: str, data: bytes) -> Clip:
    """Open a video and decode its first frame.

    Raises:
        UnreadableMedia: Above 64 MiB or 40 megapixels, no video container we read, or no picture in it.
    """
    for stream, shot in _decode(which, data):
        sideways = shot.frame.rotation % 180 != 0
        return Clip(
            which=which,
            data=data,
            width=shot.frame.height if sideways else shot.frame.width,
            height=shot.frame.width if sideways else shot.frame.height,
            frame_rate=stream.average_rate or _USUAL_RATE,
            codec=stream.codec_context.name,
            declared_s=float((stream.duration or 0) * (stream.time_base or 0)),
        )
    raise UnreadableMedia(which, "the video holds no picture")


def play(clip: Clip, *, limit_s: float = inf) -> Iterator[Shot]:
    """Decode a clip frame by frame, in order of showing.

    Raises:
        UnreadableMedia: Damaged, longer than `limit_s` seconds, or of more than 4,200 frames.
    """
    too_long = UnreadableMedia(clip.which, f"the video is longer than {limit_s:g} s")
    if clip.declared_s > limit_s:
        raise too_long
    for _, shot in _decode(clip.which, clip.data):
        if shot.end_s > limit_s:
            raise too_long
        yield shot


def picture(frame: VideoFrame, width: int, height: int) -> Image.Image:
    """Scale a frame so that, once upright, it is width x height pixels of RGB."""
    across, down = (height, width) if frame.rotation % 180 else (width, height)
    plane = frame.reformat(across, down, format="rgb24", interpolation="BILINEAR").planes[0]
    image = Image.frombytes("RGB", (across, down), bytes(plane), "raw", "RGB", plane.line_size)
    turn = _UPRIGHT.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)


def _decode(which: str, data: bytes) -> Iterator[tuple[VideoStream, Shot]]:
    _check_size(which, data)
    try:
        with av.open(io.BytesIO(data), "r", options=_CONTAINERS, metadata_errors="ignore") as container:
            # A cover picture is a video stream to FFmpeg.
            moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not moving:
                raise UnreadableMedia(which, "the file holds no video")
            stream = moving[0]
            # PyAV's stub does not say so, but a codec FFmpeg does not know has no context.
            if getattr(stream, "codec_context", None) is None:
                raise UnreadableMedia(which, "the video's codec is unknown")
            _check_pixels(which, stream.codec_context.width, stream.codec_context.height)
            for shot in _timed(container.decode(stream), stream.average_rate or _USUAL_RATE, which):
                yield stream, shot
    except FFmpegError as error:
        raise UnreadableMedia(
            which, f"neither an image nor a video we can decode ({error.strerror})"
        ) from error


def _timed(frames: Iterator[VideoFrame], rate: Fraction, which: str) -> Iterator[Shot]:
    """Put frames on a clock that starts at zero and never runs backwards, whatever their timestamps say."""
    first_s: float | None = None
    at_s = 0.0
    for count, frame in enumerate(frames):
        if count >= MAX_FRAMES:
            raise UnreadableMedia(which, f"the video has more than {MAX_FRAMES} frames")
        _check_pixels(which, frame.width, frame.height)
        if frame.pts is None or frame.time_base is None:
            start_s, long_s = float(count / rate), float(1 / rate)
        else:
            start_s = float(frame.pts * frame.time_base)
            long_s = float(frame.duration * frame.time_base) or float(1 / rate)
        first_s = start_s if first_s is None else first_s
        at_s = max(at_s, start_s - first_s)
        yield Shot(frame=frame, start_s=at_s, end_s=at_s + long_s)


def _check_size(which: str, data: bytes) -> None:
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableMedia(which, "the file is above 64 MiB")
    if not data:
        raise UnreadableMedia(which, "the file is empty")


def _check_pixels(which: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableMedia(which, "the picture is above 40 megapixels")
