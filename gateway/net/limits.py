"""What both readers of answers, `protocol` and `exchange`, hold a server to.

How many bytes all heads of an answer may have is their own: strangers may send less than providers.
"""

from __future__ import annotations

INTERIM_MAX = 128
"""Interim answers (1xx) before one answer; a server that means well sends a few."""
PIECE_BYTES = 8192
"""Parsed at once: no more heads come of them than can be parsed in a moment."""
