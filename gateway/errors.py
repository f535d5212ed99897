"""What can go wrong, as a tree.

GatewayError
├── SettingsError       a setting is missing or wrong; the start stops with exit code 78
├── SchemaRefused       the database is newer, damaged, half restored or another process's; exit code 78
├── StorageUnavailable  the database cannot be used just now; callers are told to come back (503)
│   └── OutcomeUnknown  the connection broke in a commit: what was to be stored may be, or not
├── BackupRefused       a backup cannot be made or restored as asked; nothing was changed
├── Unreadable          a stored row holds what this version does not know; callers are told so (503)
├── LeaseLost           another worker holds the task now; what this one learnt is thrown away
├── BudgetSpent         a job may not be submitted again: its owner's budget leaves too little
├── NotWanted           what a task was about to do must not be done any more; nothing was sent
└── Refusal             a request cannot be served; carries the slug of its problem document
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class GatewayError(Exception):
    """The root of what this program raises by itself."""


class SettingsError(GatewayError):
    """A setting is missing or wrong. The text names the key, its origin, and what would be right."""


class SchemaRefused(GatewayError):
    """The database cannot be served: newer schema, damage, half restored, or another process holds it."""


class StorageUnavailable(GatewayError):
    """The database cannot be used just now; nothing of the operation was stored, unless the text says so."""


class OutcomeUnknown(StorageUnavailable):
    """The connection broke in a commit: look before doing anything again."""


class BackupRefused(GatewayError):
    """A backup cannot be made or restored as asked. The text says why, and what would be right."""


class Unreadable(GatewayError):
    """A stored row cannot be decoded: a newer version wrote it, or it is damaged. The text names it."""


class LeaseLost(GatewayError):
    """The task's version moved on: another worker holds it, and this one's result must not be written."""


class BudgetSpent(GatewayError):
    """A further submission would cost more than was reserved for the job, and than the budget leaves."""


class NotWanted(GatewayError):
    """What a task was about to do must not be done any more: time has passed, or somebody cancelled."""


class FieldProblem(Struct, frozen=True):
    """One wrong place in a request body: a JSON Pointer (RFC 6901) and what is wrong there."""

    pointer: str
    message: str


class Refusal(GatewayError):
    """A request that cannot be served.

    Args:
        slug: names the problem type; the table in `gateway/api/problems.py` gives its status and title.
        detail: what is wrong with this request, in words.
        errors: the places in the body, for 422.
        headers: extra response headers, such as Retry-After.
        policies: the limits that were reached, shown as `violated-policies`.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: tuple[FieldProblem, ...] = (),
        headers: Mapping[str, str] | None = None,
        policies: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.policies = policies
