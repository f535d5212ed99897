"""Films are made here: decoding and encoding in threads, each film once, kept until memory is short."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from hashlib import sha256

from PIL import Image

from gateway.simulator.fetch import UnusableMedia
from gateway.simulator.film import UnreadableMedia, render
from gateway.simulator.media import Inputs, measure
from gateway.simulator.reel import encode
from providers.contract.motion import Ratio

WORKERS = 2  # PyAV, libx264 and Pillow let go of the interpreter's lock
KEPT_BYTES = 256 * 1024 * 1024
_BLANK = "blank"


class Studio:
    """Measures inputs and makes films.

    Args:
        rendering: whether films are rendered from their inputs; else all are one tiny blank film.
        kept_bytes: how much film is kept; beyond it the oldest lapse.
    """

    def __init__(self, *, rendering: bool, kept_bytes: int = KEPT_BYTES) -> None:
        self._rendering, self._kept_bytes = rendering, kept_bytes
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="simulator-studio")
        self._films: OrderedDict[str, bytes] = OrderedDict()
        self._shooting: dict[str, asyncio.Future[bytes]] = {}
        self._lengths_s: dict[tuple[str, str, str], float] = {}

    async def measure(self, inputs: Inputs) -> float:
        """The reference's length in seconds; raises like `media.measure`."""
        key = (inputs.character_type.value, inputs.character.digest, inputs.reference.digest)
        if key not in self._lengths_s:
            loop = asyncio.get_running_loop()
            self._lengths_s[key] = await loop.run_in_executor(self._threads, measure, inputs)
        return self._lengths_s[key]

    async def shoot(self, inputs: Inputs, ratio: Ratio, label: str) -> str:
        """Make a film, or find it made, and return the key under which `film` has it.

        Raises:
            UnusableMedia: an input does not decode to its end.
        """
        key, make = self._order(inputs, ratio, label)
        if key in self._films:
            return key
        if key not in self._shooting:
            future = asyncio.get_running_loop().run_in_executor(self._threads, make)
            future.add_done_callback(lambda done: self._keep(key, done))
            self._shooting[key] = future
        try:
            # Shielded: another job may be waiting for the same film.
            await asyncio.shield(self._shooting[key])
        except UnreadableMedia as error:
            raise UnusableMedia(error.which, error.why) from error
        return key

    def film(self, key: str) -> bytes | None:
        """The film of that key, an MP4; None once it lapsed."""
        return self._films.get(key)

    async def close(self) -> None:
        """Drop what has not begun and wait for what has: up to some seconds for a long film."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    def _order(self, inputs: Inputs, ratio: Ratio, label: str) -> tuple[str, Callable[[], bytes]]:
        if not self._rendering:
            return _BLANK, _blank

        def make() -> bytes:
            width, height = ratio.size
            return render(
                character=inputs.character.data,
                reference=inputs.reference.data,
                width=width,
                height=height,
                label=label,
            )

        parts = (inputs.character.digest, inputs.reference.digest, ratio.value, label)
        return sha256("\n".join(parts).encode()).hexdigest(), make

    def _keep(self, key: str, made: asyncio.Future[bytes]) -> None:
        del self._shooting[key]
        if made.cancelled() or made.exception() is not None:
            return  # whoever waits for it is told
        self._films[key] = made.result()
        while len(self._films) > 1 and sum(map(len, self._films.values())) > self._kept_bytes:
            self._films.popitem(last=False)


def _blank() -> bytes:
    picture = Image.new("RGB", (64, 64), (46, 52, 74))
    return encode([picture] * 4, width=64, height=64, rate=Fraction(4))
