"""How many files this process may have open: each event stream, request and webhook under way is one."""

from __future__ import annotations

import resource
from typing import Final

ENOUGH: Final = 65_536
"""More than all the bounds on connections together, in their widest settings that are of use."""


def raise_limit() -> None:
    """Raise the soft limit, 1,024 on many systems, as far as the hard one allows: 5,000 may watch at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
