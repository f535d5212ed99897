"""`motion-gateway endpoints`: owners' webhook endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import click
import msgspec
from rich import box
from rich.table import Column, Table
from rich.text import Text

from gateway.api.paging import parse_instant
from gateway.app.from_settings import receiver_policy
from gateway.cli.chosen_database import existing_settings
from gateway.cli.configured import settings_options, with_store
from gateway.cli.exits import Failed
from gateway.cli.screen import open_console, printable
from gateway.ids import Ids
from gateway.service.endpoints import Endpoints, EndpointView, EndpointWithSecret
from gateway.service.pings import Pings, open_ping_sender
from gateway.service.recovery import Recovered, Recovery
from gateway.settings import Settings
from gateway.storage.store import Store
from gateway.webhooks.events import DEFAULT_EVENTS, EventType
from gateway.webhooks.outcome import Outcome

T = TypeVar("T")

PAGE = 100
DESCRIPTION_MAX = 200


@click.group()
def command() -> None:
    """Make, list and mend webhook endpoints; also while a gateway serves the database.

    An endpoint hears of all its owner's jobs. What it did not get, because it failed or was disabled, is kept
    and can be recovered.
    """


@command.command()
@click.option("--owner", required=True, help="Whose jobs it hears of.")
@click.option("--url", required=True, help="Where it is.")
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice([event.value for event in EventType]),
    default=[event.value for event in DEFAULT_EVENTS],
    show_default=True,
    help="What it hears of; may be given again.",
)
@click.option("--description", help="For people.")
@click.option(
    "--signing",
    type=click.Choice(["hmac", "ed25519"]),
    default="hmac",
    show_default=True,
    help="hmac: a shared secret. ed25519: a pair, whose public half is shown.",
)
@settings_options
def create(
    *,
    owner: str,
    url: str,
    events: tuple[str, ...],
    description: str | None,
    signing: Literal["hmac", "ed25519"],
    database: str | None,
    config: Path | None,
) -> None:
    """Make an endpoint; what verifies its messages alone goes to stdout, a secret is shown this once."""
    if description is not None and len(description) > DESCRIPTION_MAX:
        raise click.BadParameter(f"must be at most {DESCRIPTION_MAX} characters.", param_hint="--description")
    made = _with_endpoints(
        existing_settings(database, config),
        lambda endpoints: endpoints.create(
            owner=owner, url=url, events=events, description=description, signing=signing
        ),
    )
    _show_secret(made)
    click.echo(f"{made.id} of owner {made.owner!r}", err=True)


@command.command("list")
@click.option("--owner", help="Whose.  [default: everybody's]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_options
def list_endpoints(*, owner: str | None, as_json: bool, database: str | None, config: Path | None) -> None:
    """Show endpoints, newest first; never their secrets."""
    found = _with_endpoints(existing_settings(database, config), partial(_all, owner=owner))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"endpoints": found}), indent=2))
    elif found:
        _print_table(found)
    else:
        click.echo("There is no endpoint; `motion-gateway endpoints create` makes one.", err=True)


@command.command()
@click.argument("endpoint_id", metavar="ID")
@settings_options
def rotate(endpoint_id: str, database: str | None, config: Path | None) -> None:
    """Give it another secret, shown this once; the old one signs beside it for 24 hours."""
    made = _with_endpoints(
        existing_settings(database, config), lambda endpoints: endpoints.rotate(endpoint_id, owner=None)
    )
    _show_secret(made)
    click.echo(f"the one before signs beside it until {made.previous_secret_until}", err=True)


@command.command()
@click.argument("endpoint_id", metavar="ID")
@settings_options
def test(endpoint_id: str, database: str | None, config: Path | None) -> None:
    """Send it a ping now, from this machine; exit code 1 when it does not take it.

    Which receivers may be called is judged by this command's own settings and environment, not by those of a
    gateway that runs.
    """
    settings = existing_settings(database, config)

    async def ping(store: Store) -> str:
        endpoint = await _endpoints(settings, store).load(endpoint_id, owner=None)
        sender = open_ping_sender(settings.webhooks)
        try:
            pings = Pings(store.clock, Ids(store.clock), store.sealer, sender, lambda _: None)
            sent = await pings.send(endpoint)
        finally:
            await sender.aclose()
        answered = "no answer" if sent.status is None else f"status {sent.status}"
        told = f"{sent.outcome} ({answered}, {sent.duration_ms} ms)"
        if sent.outcome is Outcome.BLOCKED:
            told += ", by the settings of this command; a gateway goes by those it was started with"
        if not sent.delivered:
            # What a receiver answers may hold what steers a terminal.
            raise Failed(f"{told}: {printable(sent.detail)}" if sent.detail else told)
        return told

    click.echo(with_store(settings, ping))


@command.command()
@click.argument("endpoint_id", metavar="ID")
@settings_options
def enable(endpoint_id: str, database: str | None, config: Path | None) -> None:
    """Send to it again; `recover` brings what it did not get meanwhile."""
    _with_endpoints(
        existing_settings(database, config), lambda endpoints: endpoints.enable(endpoint_id, owner=None)
    )
    click.echo(f"{endpoint_id} is enabled", err=True)


@command.command()
@click.argument("endpoint_id", metavar="ID")
@settings_options
def disable(endpoint_id: str, database: str | None, config: Path | None) -> None:
    """Send to it no more, until it is enabled."""
    _with_endpoints(
        existing_settings(database, config), lambda endpoints: endpoints.disable(endpoint_id, owner=None)
    )
    click.echo(f"{endpoint_id} is disabled", err=True)


@command.command()
@click.argument("endpoint_id", metavar="ID")
@settings_options
def delete(endpoint_id: str, database: str | None, config: Path | None) -> None:
    """Forget it; what waits for it is not sent."""
    _with_endpoints(
        existing_settings(database, config), lambda endpoints: endpoints.delete(endpoint_id, owner=None)
    )
    click.echo(f"deleted {endpoint_id}", err=True)


def _instant(_ctx: click.Context, _option: click.Parameter, value: str) -> int:
    try:
        return parse_instant(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


@command.command()
@click.argument("endpoint_id", metavar="ID")
@click.option(
    "--since",
    "since_ms",
    required=True,
    metavar="TIME",
    callback=_instant,
    help="Of events from then on, such as 2026-01-31T08:00:00Z.",
)
@settings_options
def recover(endpoint_id: str, *, since_ms: int, database: str | None, config: Path | None) -> None:
    """Send it all that it did not get since then; it must be enabled."""

    async def work(store: Store) -> Recovered:
        # In one call, which takes nothing twice; another would begin with what failed again meanwhile.
        recovery = Recovery(store.database, store.clock)
        return await recovery.recover(endpoint_id, owner=None, since_ms=since_ms, every=True)

    recovered = with_store(existing_settings(database, config), work)
    click.echo(f"{recovered.requeued} deliveries will be sent again", err=True)


async def _all(endpoints: Endpoints, *, owner: str | None) -> list[EndpointView]:
    found: list[EndpointView] = []
    while True:
        before = found[-1].id if found else None
        page = await endpoints.page(owner=owner, before=before, limit=PAGE)
        found += page
        if len(page) < PAGE:
            return found


def _endpoints(settings: Settings, store: Store) -> Endpoints:
    ids, receivers = Ids(store.clock), receiver_policy(settings)
    return Endpoints(store.database, store.clock, ids, store.sealer, receivers=receivers)


def _with_endpoints(settings: Settings, work: Callable[[Endpoints], Awaitable[T]]) -> T:
    """Open the database for a moment, and work on its endpoints."""

    async def with_them(store: Store) -> T:
        return await work(_endpoints(settings, store))

    return with_store(settings, with_them)


def _show_secret(made: EndpointWithSecret) -> None:
    click.echo(made.secret or made.public_key)
    shown = "its secret is shown this once" if made.secret else "its public key verifies its messages"
    click.echo(shown, err=True)


def _print_table(found: Sequence[EndpointView]) -> None:
    names = Column("ID", no_wrap=True, min_width=max(len(one.id) for one in found))
    # What is cut off cannot be copied.
    table = Table(
        names,
        "Owner",
        Column("URL", overflow="fold"),
        "Events",
        "Signing",
        "State",
        "Failing since",
        box=box.SIMPLE_HEAD,
    )
    for one in found:
        state = one.state if one.disabled_reason is None else f"{one.state}: {one.disabled_reason}"
        since = (one.failing_since or "")[:16].replace("T", " ")
        cells = [one.id, one.owner, one.url, " ".join(one.events), one.signing, state, since]
        # As Text, since what users wrote may look like rich's markup.
        table.add_row(*map(Text, cells), style="dim" if one.state == "disabled" else None)
    open_console().print(table)
