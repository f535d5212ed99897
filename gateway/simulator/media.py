"""The inputs of a job: fetched where that is allowed, taken from the samples where it is not.

Dialled are loopback hosts, where the rules let loopback media pass, and outside https hosts only when told so
at construction. Media under `samples.SAMPLE_HOST` are at hand. For an outside URL that is not dialled the
sample of the right kind stands in, and the film's label says "stand-in media".
"""

from __future__ import annotations

import asyncio
from hashlib import sha256

import httpx
from msgspec import Struct

from gateway.simulator.fetch import Fetcher, UnusableMedia, check_kind
from gateway.simulator.footage import MAX_REFERENCE_S, UnreadableMedia, load_clip, load_still, play
from gateway.simulator.samples import SAMPLE_HOST, SAMPLES
from providers.contract.motion import CharacterType, MotionRequest

REFERENCE_MIN_S, REFERENCE_MAX_S = 3.0, 30.0
# A clip of 900 frames at 29.97 a second is sold as 30 s.
_TOLERANCE_S = 0.05
_STAND_INS = {CharacterType.IMAGE: "/character.png", CharacterType.VIDEO: "/performance.mp4"}


class Asset(Struct, frozen=True):
    """One input's file."""

    data: bytes
    digest: str
    stand_in: bool = False


class Inputs(Struct, frozen=True):
    """Both files of a job."""

    character_type: CharacterType
    character: Asset
    reference: Asset

    @property
    def stand_in(self) -> bool:
        """Whether either is not what the URL names."""
        return self.character.stand_in or self.reference.stand_in


class Media:
    """Gets inputs by their URLs.

    Args:
        fetcher: dials where that is allowed.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._samples: dict[tuple[str, bool], Asset] = {}

    async def load(self, request: MotionRequest) -> Inputs:
        """Get both inputs of a request.

        Raises:
            UnusableMedia: one cannot be got, or is said to be of another kind.
        """
        character = await self._get("character", request.character.type, request.character.url)
        reference = await self._get("reference", CharacterType.VIDEO, request.reference.url)
        return Inputs(character_type=request.character.type, character=character, reference=reference)

    async def close(self) -> None:
        """Close what was dialled."""
        await self._fetcher.close()

    async def _get(self, option: str, kind: CharacterType, text: str) -> Asset:
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise UnusableMedia(option, f"not a URL ({error})") from error
        if url.scheme == "https" and url.host == SAMPLE_HOST:
            return await self._sample_at(option, kind, url.path)
        if self._fetcher.may_dial(url):
            return _asset(await self._fetcher.fetch(option, kind, url))
        if url.scheme != "https":
            raise UnusableMedia(option, "only https URLs are fetched")
        return await self._sample(_STAND_INS[kind], stand_in=True)

    async def _sample_at(self, option: str, kind: CharacterType, path: str) -> Asset:
        if path not in SAMPLES:
            raise UnusableMedia(option, "answered with status 404, not 200")
        content_type, _ = SAMPLES[path]
        check_kind(option, kind, content_type)
        return await self._sample(path, stand_in=False)

    async def _sample(self, path: str, *, stand_in: bool) -> Asset:
        if (path, stand_in) not in self._samples:
            data = await asyncio.to_thread(SAMPLES[path][1])  # drawn at its first use, which takes a while
            self._samples[path, stand_in] = _asset(data, stand_in=stand_in)
        return self._samples[path, stand_in]


def measure(inputs: Inputs) -> float:
    """Decode both inputs and return the reference's length in seconds. Slow: for a worker thread.

    Raises:
        UnusableMedia: one does not decode, or the reference is shorter than 3 s or longer than 30 s.
    """
    try:
        if inputs.character_type is CharacterType.VIDEO:
            load_clip("character", inputs.character.data)
        elif load_still("character", inputs.character.data) is None:
            raise UnusableMedia("character", "not a PNG, JPEG or WebP image")
        shots = play(load_clip("reference", inputs.reference.data), limit_s=MAX_REFERENCE_S)
        duration_s = max((shot.end_s for shot in shots), default=0.0)
    except UnreadableMedia as error:
        raise UnusableMedia(error.which, error.why) from error
    if not REFERENCE_MIN_S - _TOLERANCE_S <= duration_s <= REFERENCE_MAX_S + _TOLERANCE_S:
        bounds = f"{REFERENCE_MIN_S:g} to {REFERENCE_MAX_S:g} s"
        raise UnusableMedia("reference", f"its {duration_s:.1f} s are outside {bounds}")
    return duration_s


def _asset(data: bytes, *, stand_in: bool = False) -> Asset:
    return Asset(data=data, digest=sha256(data).hexdigest(), stand_in=stand_in)
