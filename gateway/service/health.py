"""How the accounts fare, shared by every process through the store.

Each process counts its own calls; what follows from them (a breaker that opens, a pause, a smaller cap) is
written down, and heard by the others with the next claim. Slots are not counted here but looked up: whoever
has a live attempt has one, which is right again after any crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.routing import health as rules
from gateway.routing.account import Account
from gateway.routing.breaker import CLOSED, PROBE_MS
from gateway.routing.conditions import Condition
from gateway.routing.health import WELL, Health, Limits, Operation, Outcome, Shut
from gateway.service.first_calls import FirstCalls
from gateway.storage import accounts as account_rows
from gateway.storage.engine import Database
from gateway.telemetry import get_logger

_log = get_logger("gateway.accounts")

Write = Callable[[Connection], None]
FRESH_S = 2.0
"""How old a copy may be that a job is planned by, where no worker renews it."""


class Terms(Struct, frozen=True, kw_only=True):
    """What bounds an account."""

    limits: Limits = Limits()
    weight: float = 1.0
    longest_run_ms: int
    """As its provider declares: after that an attempt in doubt cannot be running any more."""
    key: str = ""
    """A fingerprint of its key: what was found out with another says nothing of this one."""


class Healths:
    """How each account fares, as far as this process knows.

    Args:
        database: where all processes tell each other.
        clock: dates everything.
        terms: by account; accounts that are not in it are not known here.
    """

    def __init__(self, database: Database, clock: Clock, terms: Mapping[Account, Terms]) -> None:
        self._database = database
        self._clock = clock
        self._terms = terms
        self.first_calls = FirstCalls(clock)
        self._known: dict[Account, Health] = dict.fromkeys(terms, WELL)
        self._looked_s: float | None = None
        self._in_flight: dict[Account, int] = {}
        self._probes: dict[tuple[Account, Operation], int] = {}

    def shut(self, account: Account, operation: Operation) -> Shut | None:
        """Why a call other than a submit is not to be made now; None: it may be, and is to be noted."""
        known, now_ms = self._known[account], self._clock.now_ms()
        closed = rules.shut(known, operation, now_ms=now_ms)
        if closed is not None or not rules.on_trial(known, operation):
            return closed
        if self._probes.get((account, operation), 0) > now_ms:
            return Shut(code="breaker_open", reason=f"a {operation} is under way to try it")
        self._probes[account, operation] = now_ms + PROBE_MS
        return None

    def refused(self, account: Account) -> Shut | None:
        """Why nothing at all is to be asked of an account now: its key is refused; None: it may be."""
        found = rules.shut(self._known[account], Operation.POLL, now_ms=self._clock.now_ms())
        return found if found is not None and found.code == "unauthorized" else None

    def openings(self, connection: Connection) -> dict[Account, int | None]:
        """How many submits each account takes now, None for no limit; and learn how all of them fare."""
        self._learn(self._stored(connection))
        now_ms = self._clock.now_ms()
        found: dict[Account, int | None] = {}
        for account, terms in self._terms.items():
            known = self._known[account]
            in_flight = 0
            if rules.cap_of(known, terms.limits) is not None:
                in_flight = self._count(connection, account, now_ms)
            opening = rules.room(known, terms.limits, in_flight, now_ms=now_ms)
            found[account] = 0 if isinstance(opening, Shut) else opening
        return found

    def admit(self, connection: Connection, account: Account) -> Shut | None:
        """Take a slot for an attempt that this transaction stores; or say why there is none.

        The account is locked until the transaction ends, so that two never take the last slot.
        """
        terms, now_ms = self._terms[account], self._clock.now_ms()
        if terms.limits == Limits() and self._load(connection, account) == WELL:
            return None
        stored = self._lock(connection, account)
        in_flight = 0
        if rules.cap_of(stored, terms.limits) is not None:
            in_flight = self._count(connection, account, now_ms)
        opening = rules.room(stored, terms.limits, in_flight, now_ms=now_ms)
        if isinstance(opening, Shut):
            self._learn({account: stored})
            return opening
        begun = rules.begun(stored, terms.limits, now_ms=now_ms)
        if begun != stored:
            self._save(connection, account, begun)
            self._learn({account: begun})
        return None

    def noted(
        self,
        account: Account,
        operation: Operation,
        outcome: Outcome | None,
        *,
        retry_after_s: float | None = None,
    ) -> Write | None:
        """Note how a call went; what is to be written of it for the others, None when nothing is.

        Args:
            account: who was called.
            operation: what was asked.
            outcome: what it says of the account; None: the call was not made after all.
            retry_after_s: what a 429 asked for, seconds.
        """
        if outcome is not None and outcome is not Outcome.UNAUTHORIZED:
            self.first_calls.heard(account)
        before, now_ms = self._known[account], self._clock.now_ms()
        limits = self._terms[account].limits

        def change(health: Health, in_flight: int) -> Health:
            if outcome is None:
                return rules.called_off(health, now_ms=now_ms)
            return rules.noted(
                health,
                operation,
                outcome,
                now_ms=now_ms,
                in_flight=in_flight,
                retry_after_s=retry_after_s,
                limits=limits,
            )

        self._probes.pop((account, operation), None)
        after = change(before, self._in_flight.get(account, 0))
        self._known[account] = after
        if _told(before) == _told(after):
            return None

        def write(connection: Connection) -> None:
            stored = self._lock(connection, account)
            # Our own count led to this, unless another process opened the breaker before.
            ours = (
                stored
                if rules.breaker_of(stored, operation).openings
                else _counted(stored, before, operation)
            )
            in_flight = self._count(connection, account, now_ms) if outcome is Outcome.THROTTLED else 0
            changed = change(ours, in_flight)
            if changed != stored:
                self._save(connection, account, changed)
                self._learn({account: changed})
                self._tell(account, stored, changed)

        return write

    async def note(
        self,
        account: Account,
        operation: Operation,
        outcome: Outcome | None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """Note how a call went, in a transaction of its own where there is something to write.

        Raises:
            StorageUnavailable: the others do not know.
        """
        write = self.noted(account, operation, outcome, retry_after_s=retry_after_s)
        if write is not None:
            await self._database.write(write)

    def conditions(
        self, run_s: Callable[[Account], float | None] = lambda _account: None
    ) -> dict[Account, Condition]:
        """How each account stands, for a plan."""
        now_ms = self._clock.now_ms()
        found: dict[Account, Condition] = {}
        for account, terms in self._terms.items():
            opening = rules.room(
                self._known[account], terms.limits, self._in_flight.get(account, 0), now_ms=now_ms
            )
            shut = opening if isinstance(opening, Shut) else None
            found[account] = Condition(
                weight=terms.weight,
                run_s=run_s(account),
                unavailable=None if shut is None else shut.code,
                reason="" if shut is None else shut.reason,
                until_ms=None if shut is None else shut.until_ms,
            )
        return found

    def reopens_ms(self) -> int | None:
        """When the next account that is shut takes a submit again, where time alone decides that."""
        now_ms = self._clock.now_ms()
        until = [condition.until_ms for condition in self.conditions().values()]
        return min((at_ms for at_ms in until if at_ms is not None and at_ms > now_ms), default=None)

    async def fresh(self) -> None:
        """Learn how all accounts fare, unless that was done a moment ago."""
        if self._looked_s is None or self._clock.monotonic_s() - self._looked_s >= FRESH_S:
            await self.refresh()

    async def refresh(self) -> None:
        """Learn how all accounts fare, and how many slots are in use."""

        def look(connection: Connection) -> dict[Account, Health]:
            now_ms = self._clock.now_ms()
            for account in self._terms:
                self._count(connection, account, now_ms)
            return self._stored(connection)

        began_s = self._clock.monotonic_s()
        self._learn(await self._database.read(look))
        self._looked_s = began_s

    def in_use(self) -> dict[Account, tuple[int, int | None]]:
        """Slots in use and the cap on them (None: there is none), as of the last look."""
        return {
            account: (self._in_flight.get(account, 0), rules.cap_of(self._known[account], terms.limits))
            for account, terms in self._terms.items()
        }

    def breakers(self) -> dict[tuple[Account, Operation], bool]:
        """Which kinds of call are shut just now, by account."""
        now_ms = self._clock.now_ms()
        return {
            (account, operation): rules.shut(known, operation, now_ms=now_ms) is not None
            for account, known in self._known.items()
            for operation in Operation
        }

    def unwell(self) -> dict[tuple[Account, Operation], bool]:
        """Which kinds of call have not gone well since they were first shut, by account: for who watches."""
        now_ms = self._clock.now_ms()
        return {
            (account, operation): rules.unwell(known, operation, now_ms=now_ms)
            for account, known in self._known.items()
            for operation in Operation
        }

    def _count(self, connection: Connection, account: Account, now_ms: int) -> int:
        since_ms = now_ms - self._terms[account].longest_run_ms
        self._in_flight[account] = account_rows.count_in_flight(connection, account, since_ms=since_ms)
        return self._in_flight[account]

    def _stored(self, connection: Connection) -> dict[Account, Health]:
        """Read how every account fares by the store; this process may remember what was rolled back."""
        found = account_rows.load_all(connection)
        return {account: self._of_key(account, found.get(account, WELL)) for account in self._terms}

    def _load(self, connection: Connection, account: Account) -> Health:
        return self._of_key(account, account_rows.load(connection, account))

    def _lock(self, connection: Connection, account: Account) -> Health:
        return self._of_key(account, account_rows.lock(connection, account))

    def _save(self, connection: Connection, account: Account, health: Health) -> None:
        account_rows.save(connection, account, replace(health, key=self._terms[account].key))

    def _of_key(self, account: Account, stored: Health) -> Health:
        """Take what is known of an account, unless it was found out with a key that was replaced since."""
        return replace(stored, key="") if stored.key == self._terms[account].key else WELL

    def _learn(self, stored: Mapping[Account, Health]) -> None:
        """Take over what others wrote, and keep what this process alone counts."""
        for account, health in stored.items():
            known = self._known.get(account)
            if known is None:
                continue
            for operation in Operation:
                both_closed = not (
                    rules.breaker_of(health, operation).openings
                    or rules.breaker_of(known, operation).openings
                )
                if both_closed:
                    health = _counted(health, known, operation)  # noqa: PLW2901  (grows by one operation)
            self._known[account] = health

    def _tell(self, account: Account, before: Health, after: Health) -> None:
        provider, name = account
        for operation in Operation:
            was, now = (rules.breaker_of(health, operation).openings for health in (before, after))
            if now > was:
                until_ms = rules.breaker_of(after, operation).open_until_ms
                _log.error(
                    "breaker.opened",
                    provider=provider,
                    account=name,
                    operation=operation,
                    openings=now,
                    for_s=(until_ms - self._clock.now_ms()) / 1000,
                )
            elif was and not now:
                _log.info("breaker.closed", provider=provider, account=name, operation=operation)
        for kind, (was_pause, now_pause) in rules.pauses(before, after).items():
            if now_pause.times > was_pause.times:
                for_s = (now_pause.until_ms - self._clock.now_ms()) / 1000
                _log.error("account.paused", provider=provider, account=name, why=kind, for_s=for_s)


def _told(health: Health) -> Health:
    """What others are told of: everything but the counts of a closed breaker."""
    for operation in Operation:
        if not rules.breaker_of(health, operation).openings:
            health = rules.with_breaker(health, operation, CLOSED)
    return health


def _counted(health: Health, counts: Health, operation: Operation) -> Health:
    return rules.with_breaker(health, operation, rules.breaker_of(counts, operation))
