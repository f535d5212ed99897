"""What a server may send before it answers. Both readers of answers (`protocol`, `exchange`) hold it."""

from __future__ import annotations

INTERIM_MAX = 128
"""Interim answers (1xx) before one answer; a server that means well sends a few."""
PIECE_BYTES = 8192
"""Parsed at once: no more heads come of them than can be parsed in a moment."""
