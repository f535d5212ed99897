"""Limits of keys and owners as a command's options."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import click

from gateway.settings.rates import Rate, parse_rate

Command = Callable[..., None]

NONE: Final = "none"
MOST_IN_FLIGHT: Final = 1_000_000
_USD: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def limit_options(command: Command) -> Command:
    """Add `--rate`, `--max-in-flight` and `--budget-usd`.

    The command takes `rate`, `max_in_flight` and `budget_usd` (micro-USD): each empty when it was not given,
    else of one entry, which is None for no limit.
    """
    rate = click.option(
        "--rate",
        callback=_rate,
        metavar="N/s|m|h|d",
        help="Requests of the key in an interval, such as 60/m; none: as the settings say.",
    )
    in_flight = click.option(
        "--max-in-flight",
        callback=_in_flight,
        metavar="N",
        help="Unfinished jobs of the owner; none: as the settings say.",
    )
    budget = click.option(
        "--budget-usd",
        callback=_budget,
        metavar="N",
        help="What the owner's jobs of one calendar month (UTC) may come to; none: no limit.",
    )
    return rate(in_flight(budget(command)))


def limits_of(
    max_in_flight: Sequence[int | None], budget_micro_usd: Sequence[int | None]
) -> dict[str, int | None]:
    """Return what is to be set for the owner, by the name of its column."""
    found = {"max_in_flight": max_in_flight, "budget_micro_usd": budget_micro_usd}
    return {name: given[0] for name, given in found.items() if given}


def _option(
    read: Callable[[str], object],
) -> Callable[[click.Context, click.Parameter, Any], tuple[object, ...]]:
    def callback(_ctx: click.Context, _option: click.Parameter, value: Any) -> tuple[object, ...]:
        if not isinstance(value, str):
            return ()
        if value == NONE:
            return (None,)
        try:
            return (read(value),)
        except ValueError as error:
            raise click.BadParameter(f"{error}, or {NONE}.") from error

    return callback


def _read_in_flight(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,7}", text) is None or int(text) > MOST_IN_FLIGHT:
        raise ValueError(f"must be a whole number from 0 to {MOST_IN_FLIGHT}")
    return int(text)


def _read_usd(text: str) -> int:
    if _USD.fullmatch(text) is None:
        raise ValueError("must be an amount in USD such as 250 or 99.50, with six decimals at most")
    return int(Decimal(text) * 1_000_000)


def _read_rate(text: str) -> Rate:
    return parse_rate(text)


_rate, _in_flight, _budget = _option(_read_rate), _option(_read_in_flight), _option(_read_usd)
