"""What the settings say, in the terms of what is built from them."""

from __future__ import annotations

import hashlib
import hmac
from importlib.metadata import version

from gateway.errors import SettingsError
from gateway.net import DialPolicy, parse_policy
from gateway.registry import Registry
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.failover import Rules
from gateway.service.health import Terms
from gateway.settings import Settings
from gateway.telemetry.tracing import Tracing, Untraced
from gateway.upstream.accounts import Accounts


def receiver_policy(settings: Settings) -> DialPolicy:
    """Return which webhook receivers may be dialled.

    Raises:
        SettingsError: an entry is of a form that only the dialler refuses.
    """
    webhooks = settings.webhooks
    try:
        return parse_policy(
            allowed_networks=webhooks.allowed_networks,
            allowed_hosts=webhooks.allowed_hosts,
            allow_http=webhooks.allow_http,
        )
    except ValueError as error:
        raise SettingsError(f"setting webhooks.{error}") from error


def media_policy(settings: Settings) -> DialPolicy:
    """Return which media URLs are taken; raises like `receiver_policy`."""
    media = settings.media
    try:
        return parse_policy(allowed_networks=media.allowed_networks, allow_http=media.allow_http)
    except ValueError as error:
        raise SettingsError(f"setting media.{error}") from error


def tracing_of(settings: Settings) -> Tracing:
    """Return what makes spans.

    Raises:
        SettingsError: the extra that sends them is not installed.
    """
    if not settings.tracing.enabled:
        return Untraced()
    try:
        from gateway.telemetry.otel import OtelTracing  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        reason = f"setting tracing.enabled needs what is not installed ({error.name})"
        raise SettingsError(f"{reason}; install it: pip install 'motion-gateway[otel]'") from error
    return OtelTracing(version=version("motion-gateway"))


def failover_rules(settings: Settings) -> Rules:
    """Return what the settings put in the place of the failover table."""
    return {
        (name, code): rule
        for name, provider in settings.providers.items()
        for code, rule in provider.failover.items()
    }


def catalogue_of(registry: Registry, accounts: Accounts, settings: Settings) -> Catalogue:
    """Join what is installed with what has an account."""
    offers = tuple(
        Offer(spec=account.adapter.spec, account=account.name, simulated=account.simulated)
        for account in accounts.all()
    )
    used = {offer.spec.name for offer in offers}
    idle = tuple(spec for spec in registry.specs if spec.name not in used)
    disabled = (name for name, provider in settings.providers.items() if provider.accounts)
    return Catalogue(offers=offers, idle=idle, disabled=frozenset(disabled) - used)


def health_terms(accounts: Accounts, secret: str) -> dict[tuple[str, str], Terms]:
    """Return what each account allows, by provider and name; its key only as a fingerprint."""

    def fingerprint(key: str) -> str:
        return hmac.new(b"accounts\0" + secret.encode(), key.encode(), hashlib.sha256).hexdigest()[:16]

    return {
        account.id: Terms(
            limits=account.limits,
            weight=account.weight,
            longest_run_ms=(account.longest_run_s or account.adapter.spec.longest_run_s) * 1000,
            key=fingerprint(account.api_key.reveal()),
        )
        for account in accounts.all()
    }
