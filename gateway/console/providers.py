"""Providers: each account with its slots, what is shut, and how its attempts fared lately."""

from __future__ import annotations

from litestar import get
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from gateway.api.providers import show
from gateway.api.replies import AnyRequest, Reply
from gateway.api.schemas import AccountView, ProviderView
from gateway.console.desk import ConsoleDesk
from gateway.service.tries import Tally


class Line(Struct, frozen=True, kw_only=True):
    """One account on the page."""

    account: AccountView
    shut: list[str]
    """The kinds of call that are withheld just now."""
    tally: Tally


class Block(Struct, frozen=True, kw_only=True):
    """One provider on the page."""

    provider: ProviderView
    lines: list[Line]


def provider_pages(desk: ConsoleDesk) -> list[BaseRouteHandler]:
    """Return the page of providers."""

    @get("/providers")
    async def page(request: AnyRequest) -> Reply:
        visitor = await desk.entrance.admit(request)
        await desk.healths.refresh()
        lately, breakers = await desk.tries.lately(), desk.healths.breakers()
        blocks = [
            Block(
                provider=provider,
                lines=[
                    Line(
                        account=account,
                        shut=[
                            operation.value
                            for (place, operation), shut in breakers.items()
                            if shut and place == (provider.name, account.name)
                        ],
                        tally=lately.get((provider.name, account.name), Tally()),
                    )
                    for account in provider.accounts
                ],
            )
            for provider in show(desk.catalogue, desk.healths).providers
        ]
        return await desk.show("providers.html", visitor, blocks=blocks)

    return [page]
