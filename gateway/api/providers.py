"""/v1/providers: what is installed, and what each provider can be told."""

from __future__ import annotations

from litestar import get
from litestar.handlers import HTTPRouteHandler

from gateway.api.auth import Doorkeeper
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.api.schemas import AccountView, ModelView, OptionView, ProvidersView, ProviderView
from gateway.routing.catalogue import Catalogue
from gateway.service.health import Healths
from gateway.service.keys import Scope
from gateway.service.plans import unavailable_view
from providers.contract.spec import ModelSpec, ParamSpec, Spec


def provider_routes(catalogue: Catalogue, door: Doorkeeper, healths: Healths) -> HTTPRouteHandler:
    """Return the route of /v1/providers."""

    @get("/v1/providers")
    async def providers(request: AnyRequest) -> Reply:
        await door.admit(request, Scope.JOBS)
        await healths.refresh()
        return json_reply(show(catalogue, healths))

    return providers


def show(catalogue: Catalogue, healths: Healths) -> ProvidersView:
    """Show the catalogue and how each account fares, providers in use first."""
    conditions, slots = healths.conditions(), healths.in_use()
    specs: dict[str, Spec] = {}
    accounts: dict[str, list[AccountView]] = {}
    for offer in catalogue.offers:
        specs[offer.spec.name] = offer.spec
        in_use, limit = slots[offer.spec.name, offer.account]
        account = AccountView(
            name=offer.account,
            simulated=offer.simulated,
            slots_in_use=in_use,
            slots_limit=limit,
            unavailable=unavailable_view(conditions[offer.spec.name, offer.account]),
        )
        accounts.setdefault(offer.spec.name, []).append(account)
    for spec in catalogue.idle:
        specs[spec.name] = spec
    return ProvidersView(
        providers=[
            ProviderView(
                name=spec.name,
                title=spec.title,
                enabled=spec.name in accounts,
                models=[_model(model) for model in spec.models],
                accounts=accounts.get(spec.name, []),
                cancel="none" if spec.cancel is None else "stops" if spec.cancel.stops else "detaches",
                output_life_s=spec.output.life_s,
            )
            for spec in specs.values()
        ]
    )


def _model(model: ModelSpec) -> ModelView:
    return ModelView(
        name=model.name,
        upstream=model.upstream,
        character_types=[kind.value for kind in model.character_types],
        reference_min_s=model.reference_min_s,
        reference_max_s=model.reference_max_s,
        options={param.option: _option(param) for param in model.params},
        price_usd_per_s=model.price.micro_usd_per_s / 1_000_000,
        minimum_usd=model.price.minimum_micro_usd / 1_000_000,
        typical_run_s=model.typical_run_s,
    )


def _option(param: ParamSpec) -> OptionView:
    values = None if param.values is None else list(param.values)
    if not param.field and param.implied is not None:
        values = [str(param.implied)]
    return OptionView(values=values, minimum=param.minimum, maximum=param.maximum)
