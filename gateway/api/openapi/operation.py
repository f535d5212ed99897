"""What is said of an operation."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.api.openapi.parameters import Json, path_parameters
from gateway.api.openapi.refusals import AUTH, BODY, STORAGE


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: str
    path: str
    id: str
    summary: str
    scope: str | None = "jobs"
    """The scope its key needs; None for routes that ask for no key."""
    takes: type | None = None
    answers: type | str
    """The type of the reply's document, or its media type where it is no document of ours."""
    status: int = 200
    or_status: Mapping[int, str] = {}
    """Further statuses that are no problem, with what each means; those but 204 have the same document."""
    refusals: tuple[str, ...] = ()
    """Slugs of the problems it can answer with, besides those of every route, of keys, bodies and storage."""
    storage: bool = False
    """Whether it needs the storage although it asks for no key, which needs it, too."""
    parameters: tuple[Json, ...] = ()
    """In the query and the headers; those in the path are known by name."""
    headers: tuple[str, ...] = ()
    at_times: tuple[str, ...] = ()
    """Headers that only some of the answers have."""
    told: str = ""
    """What else there is to say."""

    @property
    def all_parameters(self) -> tuple[Json, ...]:
        """Those of the path, then the others."""
        return *path_parameters(self.path), *self.parameters

    @property
    def all_refusals(self) -> tuple[str, ...]:
        """Its own, and what follows from a key, a body and a storage."""
        of_key = () if self.scope is None else AUTH
        of_body = () if self.takes is None else BODY
        return *of_key, *of_body, *self.refusals, *(STORAGE if self.scope is not None or self.storage else ())
