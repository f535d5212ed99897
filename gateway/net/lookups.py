"""The operating system's name servers, asked so that those which never answer hold up nobody else's names."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from gateway.net.failures import LookupsBusy

Lookup = Callable[[str, int, str], Awaitable[list[str]]]
"""(host, port, on whose behalf: an owner, or empty for the operator) -> addresses as text, in the order of
preference; raises OSError when there are none."""

LOOKUPS = 32
"""Most lookups at once, unless whoever makes a `SystemLookup` says otherwise."""
GREED = 3
"""An owner may have that many times as many under way as threads are left free."""
_PER_NAME = 2
_JOINED_S = 5.0  # a lookup that is older may have met a server that died; one more is then worth a thread


class _Lookup(Struct, frozen=True, eq=False):
    owner: str
    began_s: float
    answer: asyncio.Future[list[str]]


class SystemLookup:
    """Asks them on threads of its own.

    getaddrinfo(3) cannot be interrupted: whoever asks may give up, the thread is the C library's until that
    gives up, too. So that names whose servers never answer hold up nobody else's, a name has one thread,
    whoever asks for it meanwhile (two when the first hangs), and an owner no more than its share. What gets
    none is refused at once, and comes again.

    Args:
        threads: most lookups at once.
    """

    def __init__(self, *, threads: int = LOOKUPS) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="dns")
        self._most = threads
        self._names: dict[str, list[_Lookup]] = {}
        self._owners: Counter[str] = Counter()

    async def __call__(self, host: str, port: int, owner: str) -> list[str]:
        """Addresses of `host`; a link-local one carries its zone.

        Raises:
            LookupsBusy: it was not asked for.
            OSError: as getaddrinfo raises it (socket.gaierror).
        """
        lookup = self._lookup(host.lower(), port, owner)
        await asyncio.wait({lookup.answer})  # whoever leaves takes nothing from those who wait for it, too
        if lookup.answer.cancelled():
            raise OSError(errno.ECANCELED, "the gateway stops")
        return lookup.answer.result()

    def close(self) -> None:
        """Let go of the threads; one that is inside getaddrinfo ends by itself."""
        for lookups in self._names.values():
            for lookup in lookups:
                lookup.answer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lookup(self, host: str, port: int, owner: str) -> _Lookup:
        """Return the lookup to wait for: one that is under way, or a new one."""
        loop = asyncio.get_running_loop()
        under_way = self._names.get(host, [])
        if under_way:
            latest = under_way[-1]
            if len(under_way) >= _PER_NAME or loop.time() - latest.began_s < _JOINED_S:
                return latest
        free = self._most - self._owners.total()
        if free < 1 or (owner and self._owners[owner] >= GREED * free):
            raise LookupsBusy(f"{host} was not looked up: too many lookups are under way")
        answer = loop.run_in_executor(self._threads, _getaddrinfo, host, port)
        lookup = _Lookup(owner, loop.time(), answer)
        self._names.setdefault(host, []).append(lookup)
        self._owners[owner] += 1
        answer.add_done_callback(lambda _: self._end(host, lookup))
        return lookup

    def _end(self, host: str, lookup: _Lookup) -> None:
        if not lookup.answer.cancelled():
            lookup.answer.exception()  # seen, also when nobody waits for it any more
        self._names[host].remove(lookup)
        if not self._names[host]:
            del self._names[host]
        self._owners[lookup.owner] -= 1
        self._owners += Counter()  # drops those that have none


def _getaddrinfo(host: str, port: int) -> list[str]:
    answers: dict[str, None] = {}
    for _, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        zone = f"%{place[3]}" if len(place) == 4 and place[3] else ""
        answers[f"{place[0]}{zone}"] = None
    return list(answers)
