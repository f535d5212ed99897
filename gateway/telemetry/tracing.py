"""Traces: one for each job, from the request that made it to its last webhook, over restarts.

What ties it together is the W3C trace context (`traceparent`, https://www.w3.org/TR/trace-context/), which is
stored with the job. While tracing is off no spans are made, yet a caller's context is kept and handed on to
receivers, so that their spans join the caller's trace.

Providers are not told the context: it is nobody's business outside, and their interfaces do not name it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal, Protocol

Kind = Literal["server", "internal", "client"]
Attributes = Mapping[str, str | int | float | bool]

HEADER: Final = "traceparent"

# Section 3.2.2: version, trace id, parent id, flags; a later version may add more behind them.
_CONTEXT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LENGTH: Final = 55


class Span(Protocol):
    """Something that takes time, as a trace shows it."""

    @property
    def context(self) -> str | None:
        """What belongs to it carries this as its `traceparent`; None where there is no trace."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Say more of it."""
        ...

    def failed(self, reason: str) -> None:
        """Mark it as failed. The reason is shown to whoever reads traces, so it holds no foreign text."""
        ...


class Tracing(Protocol):
    """Makes spans."""

    def span(
        self, name: str, kind: Kind, attributes: Attributes, *, parent: str | None = None
    ) -> AbstractContextManager[Span]:
        """Open a span; what raises fails it, by its type alone.

        Args:
            name: of few different ones, such as `submit`.
            kind: `server` answers a request, `client` makes one.
            attributes: what is known of it at once.
            parent: a `traceparent`; None: the span it is opened in, if there is one.
        """
        ...

    def close(self) -> None:
        """Send what is left. Blocks."""
        ...


class Untraced:
    """Makes no spans, and hands a caller's context on."""

    @contextmanager
    def span(
        self,
        name: str,  # noqa: ARG002 - nothing is made of it
        kind: Kind,  # noqa: ARG002 - nothing is made of it
        attributes: Attributes,  # noqa: ARG002 - nothing is made of it
        *,
        parent: str | None = None,
    ) -> Generator[Span]:
        """Open nothing."""
        yield _Unseen(parent)

    def close(self) -> None:
        """Do nothing."""


class _Unseen:
    __slots__ = ("context",)

    def __init__(self, context: str | None) -> None:
        self.context = context

    def note(self, attributes: Attributes) -> None:
        """Forget it."""

    def failed(self, reason: str) -> None:
        """Forget it."""


def parse_traceparent(values: Sequence[bytes]) -> str | None:
    """Read a request's trace context; None when there is none that can be used, which is no error.

    Args:
        values: of every `traceparent` header there is.
    """
    if len(values) != 1:
        return None
    value = values[0].strip(b" \t")
    begins = _CONTEXT.match(value)
    if begins is None:
        return None
    whole = len(value) == _LENGTH or (not value.startswith(b"00") and value[_LENGTH:].startswith(b"-"))
    # Handed on as version 00, which is what is known of it.
    return "00" + begins[0][2:].decode("ascii") if whole else None
