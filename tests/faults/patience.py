"""How long a test of several processes waits."""

from __future__ import annotations

from typing import Final

WAIT_S: Final = 240.0
"""For the whole of it, on a machine that does much else; never reached when all is well."""
