"""The header Prefer (RFC 7240), as far as it is looked at: `wait=N`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

LONGEST_S: Final = 60
"""What a longer wish is cut to, seconds."""

# All quantifiers are possessive: whatever a client writes, each byte is looked at a few times at most.
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rf'(?:[ \t]*+=[ \t]*+({_NAME}|"(?:[^"\\]|\\.)*+"))?+'
_PREFERENCE = re.compile(rf"[ \t]*+({_NAME}){_VALUE}(?:[ \t]*+;[ \t]*+(?:{_NAME}{_VALUE})?+)*+[ \t]*+(?:,|$)")
_EMPTY = re.compile(r"[ \t]*+(?:,|$)")
_SECONDS = re.compile(r'("?)0*([1-9][0-9]*)\1')


def wait_s(values: Iterable[bytes]) -> int | None:
    """Return how long the caller would wait for the answer, 1 to 60 seconds.

    Preferences are wishes: those that are not known, malformed or 0 are none, and None is returned. Of
    several waits the first one counts (RFC 7240, section 2).

    Args:
        values: every Prefer header of the request.
    """
    line = ",".join(value.decode("latin-1") for value in values)
    for name, value in _preferences(line):
        if name.lower() == "wait":
            found = _SECONDS.fullmatch(value)
            # Three digits say as much as a thousand, which would be costly to read.
            return None if found is None else min(int(found[2][:3]), LONGEST_S)
    return None


def _preferences(line: str) -> Iterator[tuple[str, str]]:
    """Split a line into names and values; what follows a malformed part is not read."""
    at = 0
    while at < len(line):
        match = _EMPTY.match(line, at)
        if match is None:
            match = _PREFERENCE.match(line, at)
            if match is None:
                return
            yield match[1], match[2] or ""
        at = match.end()
