"""Statements on what was learned of run times: one row for each model of each provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from sqlalchemy import Connection, bindparam, select, update

from gateway.routing.run_times import Learned, learn
from gateway.storage.tables import run_times
from gateway.storage.upserts import if_absent


class RunKind(Struct, frozen=True, order=True):
    """Whose runs are alike. What the simulator does says nothing of the provider it simulates."""

    provider: str
    model: str
    """Its public name."""
    simulated: bool = False


class Run(Struct, frozen=True, kw_only=True):
    """A run that succeeded: between the two ages, in seconds."""

    kind: RunKind
    after_s: float
    """At the last look that found it unfinished; 0 when there was none."""
    by_s: float
    """At the look that found its end."""


_KINDS = {
    "of_provider": run_times.c.provider,
    "of_model": run_times.c.model,
    "of_simulated": run_times.c.simulated,
}
_OF = tuple(column == bindparam(name) for name, column in _KINDS.items())
_ALL = select(run_times)
_ONE = select(run_times).where(*_OF).with_for_update()
_MAKE = if_absent(run_times)
_UPDATE = (
    update(run_times)
    .where(*_OF)
    .values(
        n=bindparam("new_n"),
        mean=bindparam("new_mean"),
        m2=bindparam("new_m2"),
        updated_at_ms=bindparam("at_ms"),
    )
)


def load_all(connection: Connection) -> dict[RunKind, Learned]:
    """Read everything learned."""
    return {
        RunKind(row.provider, row.model, row.simulated): Learned(n=row.n, mean=row.mean, m2=row.m2)
        for row in connection.execute(_ALL)
    }


def teach(connection: Connection, runs: Sequence[Run], *, at_ms: int) -> None:
    """Take runs in, in their order, on top of what any process has stored by now."""
    by_kind: dict[RunKind, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(run.kind, []).append(run)
    for kind in sorted(by_kind):  # one order for all: two processes that teach never deadlock
        named = {"of_provider": kind.provider, "of_model": kind.model, "of_simulated": kind.simulated}
        _see_to_it(connection, kind, at_ms)
        row = connection.execute(_ONE, named).one()
        learned = Learned(n=row.n, mean=row.mean, m2=row.m2)
        for run in by_kind[kind]:
            learned = learn(learned, after_s=run.after_s, by_s=run.by_s)
        values: Mapping[str, object] = {
            **named,
            "new_n": learned.n,
            "new_mean": learned.mean,
            "new_m2": learned.m2,
            "at_ms": at_ms,
        }
        connection.execute(_UPDATE, values)


def _see_to_it(connection: Connection, kind: RunKind, at_ms: int) -> None:
    """Make sure that there is a row to lock, whoever else makes it at this moment."""
    connection.execute(
        _MAKE[connection.dialect.name],
        {
            "provider": kind.provider,
            "model": kind.model,
            "simulated": kind.simulated,
            "n": 0.0,
            "mean": 0.0,
            "m2": 0.0,
            "updated_at_ms": at_ms,
        },
    )
