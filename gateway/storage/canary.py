"""Whether the key at hand is the one that this database's secrets are sealed with.

A word sealed at the first use tells. Without it, a wrong key would be found out only when a webhook is to be
signed: by then new secrets were sealed with it, and no one key opens them all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from gateway.errors import SettingsError
from gateway.storage.sealing import Sealer
from gateway.storage.tables import owners, secrets_canary

_PLACE = "secrets_canary"
_WORD = "motion-gateway"

Connect = Callable[[], AbstractContextManager[Connection]]
"""A connection in a transaction of its own."""

_SEALED = select(secrets_canary.c.sealed).where(secrets_canary.c.place == _PLACE)
_PLANT = insert(secrets_canary)
_OWNER = select(owners.c.name, owners.c.sealed_webhook_secret).limit(1)


def hold_against(reading: Connect, writing: Connect | None, sealer: Sealer, *, key: str) -> None:
    """Hold a key against the database, and let it be the database's when that has none yet.

    Args:
        reading: opens it to look.
        writing: opens it to write, which only the first use does; None changes nothing.
        sealer: seals with the key.
        key: where the key comes from, for the error.

    Raises:
        SettingsError: the secrets were sealed with another key.
    """
    with reading() as connection:
        fits = opens(connection, sealer)
    if fits is None and writing is not None:
        try:
            with writing() as connection:
                connection.execute(_PLANT, {"place": _PLACE, "sealed": sealer.seal(_WORD, bound_to=_PLACE)})
        except IntegrityError:  # another process was quicker: by the same key, or by another
            with reading() as connection:
                fits = opens(connection, sealer)
    if fits is False:
        raise SettingsError(
            f"{key} is not the key that this database's secrets were sealed with when it was made; give it"
            " that one (restore it from a backup), or webhooks and callbacks cannot be signed or checked"
        )


def opens(connection: Connection, sealer: Sealer) -> bool | None:
    """Tell whether the key opens what is sealed there; None when nothing is."""
    sealed = connection.execute(_SEALED).scalar_one_or_none()
    if sealed is not None:
        return _fits(sealer, sealed, _PLACE)
    # A database of before there was such a word may hold secrets all the same.
    owner = connection.execute(_OWNER).one_or_none()
    return None if owner is None or _fits(sealer, owner.sealed_webhook_secret, owner.name) else False


def _fits(sealer: Sealer, sealed: str, place: str) -> bool:
    try:
        sealer.open(sealed, bound_to=place)
    except SettingsError:
        return False
    return True
