"""What `check` looks at. Nothing is changed, made or paid; each check returns what it has to say."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from functools import partial
from importlib.metadata import entry_points

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.exc import DatabaseError

from gateway.app.from_settings import media_policy, receiver_policy
from gateway.cli.built_in import why_no_simulator
from gateway.clock import SystemClock
from gateway.errors import SchemaRefused, SettingsError, StorageUnavailable
from gateway.registry import PROVIDERS_GROUP, Registry
from gateway.service.accounts_needed import missing_accounts
from gateway.settings import Loaded, Settings
from gateway.settings.hosts import is_loopback
from gateway.settings.keys import account_path
from gateway.settings.load import DEFAULT
from gateway.storage.attempts import count_needed
from gateway.storage.keys import count_active
from gateway.storage.postgres_line import open_server
from gateway.storage.schema import SchemaState
from gateway.storage.sqlite import open_engine
from gateway.storage.store import check_key, database_path, exists, inspect_store
from gateway.telemetry import Redactor
from gateway.upstream.accounts import UpstreamAccount, accounts_of
from gateway.upstream.calls import Calls
from gateway.upstream.client import Client, Reply, open_upstream
from providers.conformance.exchanges import load_exchanges
from providers.conformance.verdict import check
from providers.contract.errors import UnexpectedPayload
from providers.contract.report import Cost, ModelAllowance

SOUND_SQLITE = (3, 51, 3)
"""From here on a WAL that one connection resets while another commits is not damaged. The gateway checkpoints
from its one writer only, so that older versions are safe with it alone."""
FINDINGS_SHOWN = 10


class Mark(StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    FINDING = "finding"
    """Wrong: `check` exits 1."""


class Verdict(Struct, frozen=True):
    """One line of the table."""

    area: str
    name: str
    mark: Mark
    text: str


def check_settings(loaded: Loaded, registry: Registry) -> Iterator[Verdict]:
    """Tell where each setting that is not at its default came from, and whether `serve` can start on them."""
    given = {key: origin for key, origin in loaded.origins.items() if origin != DEFAULT}
    for key, origin in sorted(given.items()):
        yield Verdict("settings", key, Mark.OK, f"from {origin}")
    if not given:
        yield Verdict("settings", "all", Mark.OK, "at their defaults")
    settings = loaded.settings
    enabled = settings.enabled_providers
    variables = ", ".join(spec.key_env for spec in registry.specs)
    if enabled:
        yield Verdict("settings", "providers", Mark.OK, ", ".join(enabled))
    elif why_no_simulator(settings, works=True) is None:
        simulated = f"none is given: with as little, serve uses the built-in simulator; set {variables}"
        yield Verdict("settings", "providers", Mark.NOTE, simulated)
    else:
        yield Verdict("settings", "providers", Mark.FINDING, f"none is configured; set one of {variables}")
    if not settings.auth.required:
        yield Verdict("settings", "auth", Mark.NOTE, "no key is asked for: everybody here may do everything")


def check_database(settings: Settings, registry: Registry) -> Iterator[Verdict]:
    """Look at the database, its schema, its keys, and the engine itself."""
    if not exists(settings):
        yield Verdict(
            "database", "file", Mark.NOTE, f"{database_path(settings)} does not exist yet; serve makes it"
        )
    try:
        state = inspect_store(settings, thorough=True)
    except (SchemaRefused, StorageUnavailable) as error:
        yield Verdict("database", "schema", Mark.FINDING, str(error))
    else:
        if exists(settings):
            yield _schema(settings, state)
            if not state.pending:
                yield _secrets(settings)
                yield _keys(settings)
                yield _under_way(settings, registry)
    if database_path(settings) is not None:
        yield _sqlite()


def _schema(settings: Settings, state: SchemaState) -> Verdict:
    pending = ", ".join(state.pending)
    if not pending:
        return Verdict("database", "schema", Mark.OK, state.head)
    if database_path(settings) is not None:
        return Verdict("database", "schema", Mark.NOTE, f"serve will apply {pending}")
    return Verdict(
        "database", "schema", Mark.FINDING, f"run `motion-gateway migrate`, which applies {pending}"
    )


def _sqlite() -> Verdict:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SOUND_SQLITE:
        return Verdict("database", "SQLite", Mark.OK, version)
    sound = ".".join(map(str, SOUND_SQLITE))
    text = f"{version}; before {sound}, let no other program checkpoint the file while it is served"
    return Verdict("database", "SQLite", Mark.NOTE, text)


def _secrets(settings: Settings) -> Verdict:
    try:
        check_key(settings)
    except (SettingsError, SchemaRefused, StorageUnavailable) as error:
        return Verdict("database", "secrets", Mark.FINDING, str(error))
    return Verdict("database", "secrets", Mark.OK, "sealed with the key at hand")


def _keys(settings: Settings) -> Verdict:
    path = database_path(settings)
    try:
        engine = open_server(settings.database) if path is None else open_engine(path, begin="BEGIN")
        with closing(engine.connect()) as connection, connection.begin():
            active = count_active(connection)
    except DatabaseError as error:
        return Verdict("database", "keys", Mark.FINDING, f"cannot be read: {error.orig}")
    if active or not settings.auth.required:
        return Verdict("database", "keys", Mark.OK, f"{active} active")
    if is_loopback(settings.server.host):
        return Verdict("database", "keys", Mark.NOTE, "none is active; serve will make one")
    text = "none is active, and serve refuses to start without; run `motion-gateway keys create`"
    return Verdict("database", "keys", Mark.FINDING, text)


def _under_way(settings: Settings, registry: Registry) -> Verdict:
    path = database_path(settings)
    try:
        engine = open_server(settings.database) if path is None else open_engine(path, begin="BEGIN")
        with closing(engine.connect()) as connection, connection.begin():
            needed = count_needed(connection)
    except DatabaseError as error:
        return Verdict("database", "accounts", Mark.FINDING, f"cannot be read: {error.orig}")
    missing = missing_accounts(needed, accounts_of(settings, registry.adapters).names())
    if missing:
        return Verdict("database", "accounts", Mark.FINDING, f"serve refuses to start: {'; '.join(missing)}")
    return Verdict("database", "accounts", Mark.OK, "every job under way has its account")


async def check_credentials(settings: Settings, registry: Registry) -> list[Verdict]:
    """Make each account's free call, where its provider has one."""
    accounts = accounts_of(settings, registry.adapters).all()
    redact = Redactor(settings.secrets()).text
    verdicts: list[Verdict] = []
    limits: list[Verdict] = []
    async with open_upstream() as http:
        calls = Calls(Client(http), SystemClock(), redact, _uncounted)
        for account in accounts:
            reply = await calls.probe(account)
            verdicts.append(_credential(account, reply))
            limits += _allowances(account, reply)
    verdicts = [replace(verdict, text=redact(verdict.text)) for verdict in (*verdicts, *limits)]
    return verdicts or [_nothing_checked(registry)]


def _nothing_checked(registry: Registry) -> Verdict:
    """Tell that no key was tried: where the service alone is given them, all would seem well."""
    variables = ", ".join(spec.key_env for spec in registry.specs)
    text = (
        "none was checked: this command was given no account. Run it with what the service has: the same"
        f" --config, and its keys, in {variables}, or in files that these with _FILE after them name."
        " deploy/RUNBOOK.md says how under systemd, compose and Kubernetes"
    )
    return Verdict("credentials", "all", Mark.NOTE, text)


def _uncounted(_provider: str, _operation: str, _outcome: str, _seconds: float) -> None:
    """Count nothing: no metrics are served."""


def _allowances(account: UpstreamAccount, reply: Reply | None) -> Iterator[Verdict]:
    """Tell what the provider lets the account do, and where the settings let more runs begin than it."""
    read, spec = account.adapter.parse_probe, account.adapter.spec
    if read is None or reply is None or reply.response is None or not reply.response.successful:
        return
    try:
        allowance = read(reply.response)
    except UnexpectedPayload as error:
        yield _of(account, "limits", Mark.NOTE, f"the answer cannot be read: {error}")
        return
    mark, told = Mark.OK, [] if allowance.balance is None else [_amount(allowance.balance)]
    sold, most = {model.upstream for model in spec.models}, account.limits.max_in_flight
    for model in allowance.models:
        if model.model in sold:
            told.append(f"{model.model}: {_allowed(model)}")
            if model.at_once is not None and (most is None or most > model.at_once):
                key = account_path(spec.name, account.name, "max_in_flight")
                mark = Mark.NOTE
                told.append(f"with {key} = {model.at_once} the others wait here, by turns")
    if told:
        yield _of(account, "limits", mark, "; ".join(told))


def _allowed(model: ModelAllowance) -> str:
    figures = {"at once": model.at_once, "a day": model.per_day, "begun today": model.used_today}
    return (
        ", ".join(f"{figure} {what}" for what, figure in figures.items() if figure is not None) or "no limit"
    )


def _amount(balance: Cost) -> str:
    if balance.micro_usd is not None:
        return f"${balance.micro_usd / 1_000_000:,.2f}"
    return f"{balance.credits or 0:,.0f} credits"


def _of(account: UpstreamAccount, area: str, mark: Mark, text: str) -> Verdict:
    return Verdict(area, f"{account.adapter.spec.name} ({account.name})", mark, text)


def _credential(account: UpstreamAccount, reply: Reply | None) -> Verdict:
    spec, verdict = account.adapter.spec, partial(_of, account, "credentials")

    if reply is None:
        return verdict(Mark.NOTE, f"{spec.title} has no free call; the first job will tell")
    response = reply.response
    if response is None:
        return verdict(Mark.FINDING, f"{account.base_url} gave no answer: {reply.failure}")
    if response.successful:
        return verdict(Mark.OK, f"accepted by {account.base_url}")
    failure = account.adapter.parse_failure(response)
    told = f"{response.status}{f', {failure.message}' if failure.message else ''}"
    if response.status in {401, 403}:
        return verdict(Mark.FINDING, f"the key is refused ({told}); renew {spec.key_env}")
    if response.status == 429 or response.status >= 500:
        return verdict(Mark.NOTE, f"{account.base_url} answered {told}; try again later")
    return verdict(Mark.FINDING, f"{account.base_url} answered {told}; is the base URL right?")


def check_adapters(registry: Registry, names: Iterable[str]) -> Iterator[Verdict]:
    """Run the conformance checks over adapters and their exchange files."""
    packages = {point.name: point.module for point in entry_points(group=PROVIDERS_GROUP)}
    for name in names:
        try:
            exchanges = load_exchanges(packages[name])
        except ValueError as error:
            yield Verdict("conformance", name, Mark.FINDING, str(error))
            continue
        findings = check(registry.adapters[name], exchanges)
        for finding in findings[:FINDINGS_SHOWN]:
            yield Verdict("conformance", name, Mark.FINDING, str(finding))
        if len(findings) > FINDINGS_SHOWN:
            yield Verdict("conformance", name, Mark.FINDING, f"and {len(findings) - FINDINGS_SHOWN} more")
        if not findings:
            yield Verdict("conformance", name, Mark.OK, f"{len(exchanges)} exchanges")


def check_policy(settings: Settings) -> Iterator[Verdict]:
    """Tell what may be dialled, and which media URLs are taken."""
    yield Verdict("outbound", "webhooks", Mark.OK, receiver_policy(settings).describe())
    yield Verdict("outbound", "media", Mark.OK, media_policy(settings).describe())
