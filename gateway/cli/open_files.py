"""How many files this process may have open: each event stream, request and webhook under way is one."""

from __future__ import annotations

import resource
from typing import Final

from msgspec.structs import replace

from gateway.settings import Settings
from gateway.telemetry import get_logger

_log = get_logger("gateway.serve")

OUR_OWN: Final = 512
"""For calls to providers, webhooks, requests under way, the database and logs."""
FEWEST: Final = 8
ENOUGH: Final = 65_536
"""More than all the bounds on connections together, in their widest settings that are of use."""


def raise_limit() -> int:
    """Raise the soft limit, 1,024 on many systems, as far as the hard one allows: 5,000 may watch at once.

    Returns:
        The limit now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(soft, wanted)


def fit(settings: Settings, files: int) -> Settings:
    """Let fewer watch than the settings say where there are not files enough for them.

    Who is told that there is no place comes back. A connection that cannot be accepted is reset instead, and
    polls of paid work fail with it.

    Args:
        settings: as loaded.
        files: how many this process may have open.
    """
    wanted = settings.server.watchers_max
    room = max(FEWEST, files - OUR_OWN)
    if room >= wanted:
        return settings
    _log.warning("serve.few_files", open_files=files, watchers_max=room, wanted=wanted)
    return replace(settings, server=replace(settings.server, watchers_max=room))
