"""Exchange files: one request and its response, and what the adapter must make of them.

Two kinds differ: a reconcile goes on for as many requests as it takes (`then`), and a callback is a request
of the provider's, which stands in the place of the response.
A file lies at `providers/<name>/exchanges/<operation>-<what>.json`; `ADDING_A_PROVIDER.md` shows one.
Files are decoded strictly: a field that is not declared here is refused, so that no expectation is
misspelled into silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from providers.contract.errors import ErrorCode
from providers.contract.exchange import HttpResponse
from providers.contract.motion import MotionRequest
from providers.contract.report import ModelAllowance
from providers.contract.status import JobStatus

Operation = Literal["submit", "poll", "cancel", "probe", "reconcile", "callback"]


class Provenance(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the response comes from: captured in life, copied from documentation, or built from a fact."""

    kind: Literal["recorded", "documented", "constructed"]
    source: str
    date: date


class Given(Struct, frozen=True, forbid_unknown_fields=True):
    """What the call is about. `request` only of a submission, `ref` only afterwards."""

    model: str = "act-two"
    attempt_id: str = "att_exchange"
    ref: str = ""
    options: dict[str, str] = {}
    """Only those that are not at their default."""
    request: msgspec.Raw | UnsetType = UNSET
    """A MotionRequest; fields at their default may be left out."""
    sent_ms: int = 0
    """When a lost submission was sent, and when its answer was given up; only for a reconcile."""
    doubted_ms: int = 0
    offered: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """The request the adapter must build, compared exactly."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    headers: dict[str, str] = {}
    """Those the adapter itself sets, names in lower case."""
    body: dict[str, object] | None = None


class Replied(Struct, frozen=True, forbid_unknown_fields=True):
    """The response; `body` is any JSON and `text` what is not JSON. Neither is an empty body."""

    status: int | UnsetType = UNSET
    """Left out for a callback, and for nothing else."""
    headers: dict[str, str] = {}
    body: msgspec.Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """A further request of a reconcile, and its response."""

    request: Asked
    response: Replied


class ExpectedSighting(Struct, frozen=True, forbid_unknown_fields=True):
    """A `Sighting`; only the fields given are compared."""

    ref: str
    client_id: str | UnsetType | None = UNSET
    inputs: dict[str, object] | UnsetType | None = UNSET
    created_ms: int | UnsetType | None = UNSET


class ExpectedRef(Struct, frozen=True, forbid_unknown_fields=True):
    """The provider took the job under this ref."""

    ref: str
    status: str | UnsetType | None = UNSET


class ExpectedError(Struct, frozen=True, forbid_unknown_fields=True):
    """An `UpstreamError`; only the fields given are compared."""

    code: ErrorCode
    provider_code: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not self.code.listed:
            raise ValueError(f"there is no code {self.code.value!r}")


class ExpectedCost(Struct, frozen=True, forbid_unknown_fields=True):
    """A `Cost`; only the fields given are compared."""

    credits: float | UnsetType | None = UNSET
    micro_usd: int | UnsetType | None = UNSET


class ExpectedAllowance(Struct, frozen=True, forbid_unknown_fields=True):
    """An `Allowance`; only the fields given are compared."""

    balance: ExpectedCost | UnsetType | None = UNSET
    models: list[ModelAllowance] | UnsetType = UNSET


class ExpectedUpdate(Struct, frozen=True, forbid_unknown_fields=True):
    """A normalized `Update`; only the fields given are compared."""

    status: JobStatus | UnsetType | None = UNSET
    """Null for a word that is not known, which leaves the job as it is."""
    provider_status: str | UnsetType = UNSET
    slow: bool | UnsetType = UNSET
    progress: float | UnsetType | None = UNSET
    outputs: list[str] | UnsetType = UNSET
    error: ExpectedError | UnsetType | None = UNSET
    cost: ExpectedCost | UnsetType | None = UNSET
    drift: bool | UnsetType = UNSET


class Expected(Struct, frozen=True, forbid_unknown_fields=True):
    """What must come of it; exactly one."""

    submitted: ExpectedRef | UnsetType = UNSET
    update: ExpectedUpdate | UnsetType = UNSET
    error: ExpectedError | UnsetType = UNSET
    """A response that is not 2xx."""
    unreadable: bool = False
    """`UnexpectedPayload`."""
    cancelled: bool = False
    """A cancel's 2xx."""
    probed: bool = False
    """A probe's 2xx that proves the key, and no more."""
    allowance: ExpectedAllowance | UnsetType = UNSET
    """What a probe's 2xx says of the account."""
    sightings: list[ExpectedSighting] | UnsetType = UNSET
    """What a reconcile returns, in this order."""
    named: str | UnsetType = UNSET
    """The ref that a callback names."""


class ExchangeFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file as it stands."""

    promise: str
    """One line: what this file holds the adapter to."""
    provenance: Provenance
    operation: Operation
    given: Given = Given()
    request: Asked | UnsetType = UNSET
    response: Replied
    then: tuple[Step, ...] = ()
    expect: Expected


class Exchange(ExchangeFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file with its name, checked and ready for use."""

    name: str
    """The file's name without its ending."""
    motion: MotionRequest | None
    """The request of `given`, defaults filled in."""
    http: HttpResponse
    """The response as the gateway would hand it to the adapter; of a callback, its headers and body."""

    @property
    def steps(self) -> tuple[HttpResponse, ...]:
        """Every response there is, in the order of the requests."""
        return (self.http, *(_http(step.response) for step in self.then))


_EXPECTABLE: dict[str, frozenset[str]] = {
    "submit": frozenset({"submitted", "unreadable"}),
    "poll": frozenset({"update", "unreadable"}),
    "cancel": frozenset({"cancelled"}),
    "probe": frozenset({"probed", "allowance", "unreadable"}),
    "reconcile": frozenset({"sightings", "unreadable"}),
    "callback": frozenset({"named", "unreadable"}),
}


def load_exchanges(place: str | Path) -> tuple[Exchange, ...]:
    """Load every exchange file of an adapter, in the order of their names.

    Args:
        place: the adapter's package, in which they lie in the folder `exchanges`; or that folder itself.

    Raises:
        ValueError: a file is not of the form declared here; the text names it.
        ModuleNotFoundError: there is no such package.
    """
    folder = files(place) / "exchanges" if isinstance(place, str) else place
    if not folder.is_dir():
        return ()
    found = sorted((entry for entry in folder.iterdir() if not entry.name.startswith((".", "_"))), key=_name)
    return tuple(load_exchange(entry.name, entry.read_bytes()) for entry in found)


def load_exchange(filename: str, content: bytes) -> Exchange:
    """Decode one exchange file.

    Raises:
        ValueError: it is not of the form declared here; the text names the file.
    """
    name = filename.removesuffix(".json")
    try:
        file = msgspec.json.decode(content, type=ExchangeFile)
        motion = None if file.given.request is UNSET else _motion(file.given.request)
        exchange = Exchange(name=name, motion=motion, http=_http(file.response), **asdict(file))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{filename}: {error}") from error
    problem = "the name must end in .json" if name == filename else next(_problems(exchange), None)
    if problem is not None:
        raise ValueError(f"{filename}: {problem}")
    return exchange


def _name(entry: Traversable) -> str:
    return entry.name


def _motion(raw: msgspec.Raw) -> MotionRequest:
    motion = msgspec.json.decode(raw, type=MotionRequest)
    unknown = next(_unknown(msgspec.json.decode(raw), msgspec.to_builtins(motion)), None)
    if unknown is not None:
        raise msgspec.ValidationError(f"given.request has the unknown field {unknown}")
    return motion


def _unknown(document: Mapping[str, object], known: Mapping[str, object]) -> Iterator[str]:
    for key, value in document.items():
        if key not in known:
            yield key
        elif isinstance(value, Mapping):
            inner = cast("Mapping[str, object]", known[key])
            yield from (f"{key}.{name}" for name in _unknown(cast("Mapping[str, object]", value), inner))


def _http(replied: Replied) -> HttpResponse:
    status = 200 if replied.status is UNSET else replied.status
    if replied.body is not UNSET:
        headers = {"content-type": "application/json", **replied.headers}
        return HttpResponse(status=status, headers=headers, body=bytes(replied.body))
    text = "" if replied.text is UNSET else replied.text
    return HttpResponse(status=status, headers=replied.headers, body=text.encode())


def _problems(exchange: Exchange) -> Iterator[str]:
    if not exchange.name.startswith(f"{exchange.operation}-"):
        yield f"the name must begin with {exchange.operation}-, the operation"
    if not exchange.promise.strip() or "\n" in exchange.promise:
        yield "promise must be one line"
    if not exchange.provenance.source.strip():
        yield "provenance.source must say where the fact was read"
    if (exchange.operation in {"submit", "reconcile"}) != (exchange.motion is not None):
        yield "given.request belongs to a submit or reconcile, and to nothing else"
    if (exchange.operation in {"poll", "cancel"}) != bool(exchange.given.ref):
        yield "given.ref belongs to a poll or cancel, and to nothing else"
    yield from _lost_problems(exchange)
    yield from _response_problems(exchange)
    given = asdict(exchange.expect).items()
    named = {field for field, value in given if value is not UNSET and value is not False}
    reads = exchange.http.successful or (exchange.operation == "reconcile" and exchange.http.status == 404)
    possible = _EXPECTABLE[exchange.operation] if reads else frozenset({"error"})
    if len(named) != 1 or not named <= possible:
        yield f"expect must hold exactly one of {', '.join(sorted(possible))}"


def _response_problems(exchange: Exchange) -> Iterator[str]:
    for response in (exchange.response, *(step.response for step in exchange.then)):
        if response.body is not UNSET and response.text is not UNSET:
            yield "response has both body and text"
        if any(name != name.lower() for name in response.headers):
            yield "response.headers must be in lower case"
        if (exchange.operation == "callback") != (response.status is UNSET):
            yield "response.status belongs to everything but a callback, which is no response"


def _lost_problems(exchange: Exchange) -> Iterator[str]:
    given, lost = exchange.given, exchange.operation == "reconcile"
    if lost != (0 < given.sent_ms <= given.doubted_ms):
        yield "given.sent_ms and doubted_ms belong to a reconcile, in this order, and to nothing else"
    if not lost and (given.offered or given.known or exchange.then):
        yield "given.offered, given.known and then belong to a reconcile, and to nothing else"
    if lost and exchange.request is UNSET:
        yield "a reconcile must say its first request"
    if exchange.operation == "callback" and exchange.request is not UNSET:
        yield "a callback has no request of ours"
