"""Collects what is wrong, so that one start tells everything at once."""

from __future__ import annotations

from gateway.errors import SettingsError


class Problems:
    """What was found so far; never holds the value of a setting."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, key: str, origin: str, problem: str) -> None:
        """Note that `key`, set in `origin`, is wrong; `problem` says what would be right."""
        line = f"{key} ({origin}): {problem}"
        if line not in self._lines:
            self._lines.append(line)

    def check(self) -> None:
        """Raise all that was noted.

        Raises:
            SettingsError: anything was noted; one line for each.
        """
        if len(self._lines) == 1:
            raise SettingsError(f"setting {self._lines[0]}")
        if self._lines:
            listed = "".join(f"\n  {line}" for line in self._lines)
            raise SettingsError(f"{len(self._lines)} settings are wrong:{listed}")
