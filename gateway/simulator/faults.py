"""What can be made to go wrong, and when: a script of rules, read strictly.

A script is JSON: `{"rules": [{"provider": "*", "operation": "create", "fault": "accept_502", "times": 1}]}`.
For every call the first rule that fits and has times left is used up by one. The faults:

* `accept_500`, `accept_502`: what was asked is done, then a 500 or 502 is answered.
* `accept_truncated`: done, then half of the answer under its full length, and the connection closed.
* `accept_truncated_json`: done, then half of the answer's JSON, well framed.
* `accept_silence`: done, then no answer until the client leaves.
* `accept_reset`: done, then the connection is reset (TCP RST).
* `html`, `html_502`: done, then a page for people, with 200 or 502.
* `unknown_status` (poll): a status word from nowhere.
* `success_without_url` (poll of a job that succeeded): its output is missing.
* `no_rows` (list): done, but the list is empty; `times` bounds how often, which makes rows late.
* `lost`, `twice`, `forged` (callback): never sent, sent twice, sent with another secret.
* `fail:<error code>` (create or poll): the job fails as the emulation's table says; told at its create, at
  the end of its course; told at a poll, at once. Polls of finished jobs do not use it up.
* `refuse:<error code>` (create): refused as the emulation's table says; no job is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.errors import SettingsError
from providers.contract.emulation import Emulation

Operation = Literal["create", "poll", "cancel", "list", "callback"]
ANY = "*"

#: Faults that spoil the answer to a call that was carried out; they fit every operation but a callback.
SPOILS = frozenset(
    {
        "accept_500",
        "accept_502",
        "accept_truncated",
        "accept_truncated_json",
        "accept_silence",
        "accept_reset",
        "html",
        "html_502",
    }
)
#: Faults that fit one operation.
PLACES: Mapping[str, Operation] = {
    "unknown_status": "poll",
    "success_without_url": "poll",
    "no_rows": "list",
    "lost": "callback",
    "twice": "callback",
    "forged": "callback",
}
#: Families of faults that end in one of our error codes, and the operations they fit.
FAMILIES: Mapping[str, frozenset[str]] = {
    "fail": frozenset({"create", "poll"}),
    "refuse": frozenset({"create"}),
}


class FaultRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong."""

    provider: str = ANY
    """An emulation's name, or `*` for all."""
    operation: Operation
    fault: str
    times: Annotated[int, Meta(ge=1)] | None = None
    """How often; None is always."""
    character_contains: str | None = None
    """Only for jobs whose character's URL contains this; a list is about no one job, so it takes none."""


class FaultScript(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules in the order in which they are tried."""

    rules: tuple[FaultRule, ...] = ()


class FaultScriptRefused(SettingsError):
    """A script that cannot be followed.

    Attributes:
        reasons: one for each mistake.
    """

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("the fault script is wrong: " + "; ".join(reasons))
        self.reasons = reasons


_decode = msgspec.json.Decoder(FaultScript).decode


def read_script(text: str | bytes) -> FaultScript:
    """Read a script; whether its words are known is checked once there are emulations, by `Faults`.

    Raises:
        FaultScriptRefused: it is not JSON of the form above.
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FaultScriptRefused((str(error),)) from error


def load_script(path: Path) -> FaultScript:
    """Read a script from a file.

    Raises:
        FaultScriptRefused: like `read_script`, or the file cannot be read.
    """
    try:
        return read_script(path.read_bytes())
    except OSError as error:
        raise FaultScriptRefused((f"{path}: {error.strerror}",)) from error


class Faults:
    """The script being followed, and how much of it is left.

    Raises:
        FaultScriptRefused: a rule names a provider, fault or error code that there is not.
    """

    def __init__(self, emulations: Mapping[str, Emulation], script: FaultScript) -> None:
        self._emulations = emulations
        self._rules: tuple[FaultRule, ...] = ()
        self._left: list[int | None] = []
        self.replace(script)

    def replace(self, script: FaultScript) -> None:
        """Follow another script from its beginning; raises like the constructor, and then changes nothing."""
        reasons = tuple(
            f"rules[{place}]: {problem}"
            for place, rule in enumerate(script.rules)
            for problem in _problems(rule, self._emulations)
        )
        if reasons:
            raise FaultScriptRefused(reasons)
        self._rules = script.rules
        self._left = [rule.times for rule in script.rules]

    def take(
        self, provider: str, operation: Operation, character_url: str, *, fits: Callable[[str], bool]
    ) -> str | None:
        """Use up the first rule for this call whose fault `fits`, and return that fault; None is none."""
        for place, rule in enumerate(self._rules):
            left = self._left[place]
            if left == 0 or rule.operation != operation or rule.provider not in {ANY, provider}:
                continue
            if rule.character_contains is not None and rule.character_contains not in character_url:
                continue
            if not fits(rule.fault):
                continue
            if left is not None:
                self._left[place] = left - 1
            return rule.fault
        return None

    def shown(self) -> dict[str, object]:
        """The script as GET /_faults shows it: each rule with the times `left`, null for always."""
        rules = zip(self._rules, self._left, strict=True)
        return {"rules": [{**msgspec.structs.asdict(rule), "left": left} for rule, left in rules]}


def _problems(rule: FaultRule, emulations: Mapping[str, Emulation]) -> list[str]:
    if rule.provider != ANY and rule.provider not in emulations:
        return [f"no provider {rule.provider!r}; there are {', '.join(sorted(emulations))}"]
    family, colon, code = rule.fault.partition(":")
    if not colon:
        return _plain_problems(rule)
    if family not in FAMILIES:
        return [f"no fault {rule.fault!r}; with a colon there are fail:<code> and refuse:<code>"]
    if rule.operation not in FAMILIES[family]:
        return [f"{rule.fault} does not fit a {rule.operation}"]
    chosen = emulations.values() if rule.provider == ANY else [emulations[rule.provider]]
    problems: list[str] = []
    for emulation in chosen:
        known = emulation.failures if family == "fail" else emulation.refusals
        if code not in known:
            problems.append(f"{emulation.name} cannot {family} with {code!r}; it knows {', '.join(known)}")
    return problems


def _plain_problems(rule: FaultRule) -> list[str]:
    if rule.fault not in SPOILS | PLACES.keys():
        names = ", ".join(sorted(SPOILS | PLACES.keys()))
        return [f"no fault {rule.fault!r}; there are {names}, fail:<code>, refuse:<code>"]
    place = PLACES.get(rule.fault)
    if rule.operation == "callback" if place is None else rule.operation != place:
        return [f"{rule.fault} does not fit a {rule.operation}"]
    if rule.operation == "list" and rule.character_contains is not None:
        return ["a list is about no one job, so character_contains cannot choose one"]
    return []
