"""From what was found about a provider to its accounts.

The environment speaks of the account named `default`. Where a file lists accounts of other names only, a key
in the environment would quietly become one more account that costs money: that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from gateway.settings.forms import base_url
from gateway.settings.keys import ACCOUNT_BOUNDS, DEFAULT_ACCOUNT, account_path
from gateway.settings.model import POLLS_PER_JOB, Account, Provider
from gateway.settings.problems import Problems
from gateway.settings.secret import Secret
from gateway.settings.sources import Found
from providers.contract.errors import FINAL, ErrorCode
from providers.contract.spec import Spec

FailoverWord = Literal["retry", "next", "give_up"]


def build_provider(spec: Spec, found: Found, values: Mapping[str, object], problems: Problems) -> Provider:
    """Build a provider's settings.

    Args:
        spec: the adapter's tables.
        found: what was written, by path, after precedence.
        values: those of them that could be read.
        problems: takes what is wrong.
    """
    prefix = f"providers.{spec.name}."
    accounts = _accounts(spec, found, values, problems)
    options = {
        option.name: str(values.get(f"{prefix}options.{option.name}", option.values[0]))
        for option in spec.options
    }
    enabled = values.get(f"{prefix}enabled")
    if enabled is True and not _names(spec, found):
        origin = found[f"{prefix}enabled"].origin
        problems.add(f"{prefix}enabled", origin, f"is true, but there is no account; set {spec.key_env}")
    failover = _failover(spec, found, values, problems)
    scale = values.get(f"{prefix}poll_scale")
    polls = values.get(f"{prefix}polls_per_job")
    bounds: dict[str, Any] = {
        field: values[path] for field in ACCOUNT_BOUNDS if (path := f"{prefix}{field}") in values
    }
    return Provider(
        enabled=enabled is not False,
        accounts=accounts,
        poll_scale=scale if isinstance(scale, float) else 1.0,
        polls_per_job=polls if isinstance(polls, float) else POLLS_PER_JOB,
        options=options,
        longest_run_s=cast("int | None", values.get(f"{prefix}longest_run_s")),
        **bounds,
        failover=failover,
    )


def _failover(
    spec: Spec, found: Found, values: Mapping[str, object], problems: Problems
) -> dict[ErrorCode, FailoverWord]:
    """Read what is to follow each error; some errors nothing may follow, whatever is set."""
    read: dict[ErrorCode, FailoverWord] = {}
    for code in ErrorCode:
        path = f"providers.{spec.name}.failover.{code}"
        if code in FINAL and path in found:
            problems.add(path, found[path].origin, f"cannot be set: {FINAL[code]}; leave it out")
        elif path in values:
            read[code] = cast("FailoverWord", values[path])
    return read


def _names(spec: Spec, found: Found) -> list[str]:
    """Return the names of its accounts, in the order they were written."""
    prefix = f"providers.{spec.name}.accounts."
    named = [path.removeprefix(prefix).partition(".")[0] for path in found if path.startswith(prefix)]
    return list(dict.fromkeys(named))


def _accounts(
    spec: Spec, found: Found, values: Mapping[str, object], problems: Problems
) -> tuple[Account, ...]:
    names = _names(spec, found)
    listed = [name for name in names if account_path(spec.name, name, "name") in found]
    for name in names:
        if listed and name not in listed:
            _refuse_mixture(spec, name, found, problems)
    accounts = [_account(spec, name, found, values, problems) for name in names]
    return tuple(account for account in accounts if account is not None)


def _account(
    spec: Spec, name: str, found: Found, values: Mapping[str, object], problems: Problems
) -> Account | None:
    key_path, url_path = (account_path(spec.name, name, field) for field in ("api_key", "base_url"))
    given_url, url = found.get(url_path), spec.base_url
    if given_url is not None and url_path in values:
        try:
            url = base_url(str(values[url_path]))
        except ValueError as error:
            problems.add(url_path, given_url.origin, str(error))
    if key_path not in found:
        mark = found.get(account_path(spec.name, name, "name")) or given_url
        how = f"set {spec.key_env}" if name == DEFAULT_ACCOUNT else "give api_key or api_key_file"
        problems.add(key_path, mark.origin if mark else "default", f"is missing; {how}")
    key = values.get(key_path)
    if not isinstance(key, Secret):
        return None
    bounds: dict[str, Any] = {}
    for field in ACCOUNT_BOUNDS:
        for path in (account_path(spec.name, name, field), f"providers.{spec.name}.{field}"):
            if path in values:
                bounds[field] = values[path]
                break
    return Account(name=name, api_key=key, base_url=url, **bounds)


def _refuse_mixture(spec: Spec, name: str, found: Found, problems: Problems) -> None:
    for field in ("api_key", "base_url"):
        path = account_path(spec.name, name, field)
        if path in found:
            problems.add(
                path,
                found[path].origin,
                f"speaks of the account {name!r}, which the list in the configuration file does not have;"
                f" name an account {name!r} there, or unset {spec.key_env} and {spec.base_url_env}",
            )
