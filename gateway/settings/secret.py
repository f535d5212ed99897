"""A text that must not be shown: keys of providers, the key that seals webhook secrets."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, Self, final

MASK: Final = "********"


@final
class Secret:
    """Wraps a text so that printing, logging or encoding it by accident shows nothing.

    `msgspec` refuses to encode it, since it is no type of its own; pickling is refused as well. Two secrets
    are compared in constant time.

    Args:
        value: the text; not empty.

    Raises:
        ValueError: `value` is empty or only blanks.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value.strip():
            raise ValueError("a secret must not be empty")
        self._value = value

    def reveal(self) -> str:
        """Return the text itself; for the one place that sends or signs with it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
