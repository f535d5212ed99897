"""Which URLs a receiver may have, and the setting that says so."""

from __future__ import annotations

from typing import Final

from gateway.net import DialPolicy, UrlRefused, check_url

NETWORKS_SETTING: Final = "webhooks.allowed_networks"
HTTP_SETTING: Final = "webhooks.allow_http"
_ALLOWS: Final = {"forbidden-target": NETWORKS_SETTING, "insecure-callback": HTTP_SETTING}


def check_receiver(url: str, policy: DialPolicy) -> str:
    """The URL in normal form, as `check_url` makes it.

    Raises:
        UrlRefused: as `check_url` does; what a setting could allow names that setting.
    """
    try:
        return check_url(url, policy, ip_literals=True)
    except UrlRefused as error:
        setting = _ALLOWS.get(error.slug)
        if setting is None:
            raise
        raise UrlRefused(error.slug, f"{error.message}; an operator may allow it: {setting}") from error
