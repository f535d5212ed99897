from __future__ import annotations

from pathlib import Path

import pytest
from settings_examples import CANARY, loaded

from gateway.errors import SettingsError

LIST = "[[providers.alpha.accounts]]\nname = 'team'\napi_key = 'sk-team-0123456789'\n"


def test_without_a_key_no_provider_is_in_use(tmp_path: Path) -> None:
    settings = loaded(tmp_path).settings
    assert settings.enabled_providers == ()
    assert settings.providers["alpha"].accounts == ()
    assert settings.providers["alpha"].options == {"path": "current"}


def test_a_key_in_the_providers_own_variable_enables_it(tmp_path: Path) -> None:
    result = loaded(tmp_path, {"ALPHA_KEY": CANARY, "BETA_SECRET": "b" * 20})
    (account,) = result.settings.providers["alpha"].accounts
    assert account.api_key.reveal() == CANARY
    assert (account.name, account.base_url, account.simulated) == (
        "default",
        "https://api.alpha.example",
        False,
    )
    assert result.settings.enabled_providers == ("alpha", "beta")
    assert result.settings.secrets() == (CANARY, "b" * 20)
    assert result.origins["providers.alpha.accounts.default.api_key"] == "environment ALPHA_KEY"


def test_preferred_providers_come_first_and_disabled_ones_not_at_all(tmp_path: Path) -> None:
    keys = {"ALPHA_KEY": CANARY, "BETA_SECRET": CANARY}
    assert loaded(tmp_path, keys, toml="routing.providers = ['beta']").settings.enabled_providers == (
        "beta",
        "alpha",
    )
    off = loaded(tmp_path, keys, toml="providers.alpha.enabled = false").settings
    assert off.enabled_providers == ("beta",)


def test_accounts_of_a_file_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-from-a-file\n")
    second = (
        "[[providers.alpha.accounts]]\nname = 'b'\napi_key_file = 'key'\nbase_url = 'http://[::1]:81/x/'\n"
    )
    accounts = loaded(tmp_path, toml=LIST + second).settings.providers["alpha"].accounts
    assert [account.name for account in accounts] == ["team", "b"]
    assert accounts[1].api_key.reveal() == "sk-from-a-file"
    assert accounts[1].base_url == "http://[::1]:81/x"


def test_the_environment_overrides_the_files_default_account(tmp_path: Path) -> None:
    toml = "[providers.alpha]\naccounts = [{api_key = 'sk-from-toml', base_url = 'https://toml.example'}]\n"
    result = loaded(tmp_path, {"ALPHA_KEY": CANARY}, toml=toml)
    (account,) = result.settings.providers["alpha"].accounts
    assert account.api_key.reveal() == CANARY
    assert account.base_url == "https://toml.example"
    assert result.origins["providers.alpha.accounts.default.base_url"] == "motion-gateway.toml"


def test_the_environment_never_adds_an_account_to_a_files_list(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"environment ALPHA_KEY\): speaks of the account 'default'"):
        loaded(tmp_path, {"ALPHA_KEY": CANARY}, toml=LIST)


def test_a_base_url_without_a_key_is_a_lost_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ALPHA_BASE_URL\): is missing; set ALPHA_KEY"):
        loaded(tmp_path, {"ALPHA_BASE_URL": "https://x.example"})


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example:8443/v1/", "https://api.example:8443/v1"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://localhost:9/alpha", "http://localhost:9/alpha"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
def test_base_urls_that_are_taken(tmp_path: Path, url: str, kept: str) -> None:
    settings = loaded(tmp_path, {"ALPHA_KEY": CANARY, "ALPHA_BASE_URL": url}).settings
    assert settings.providers["alpha"].accounts[0].base_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "", "api.example", "ftp://api.example", "https://", "https:///x", "http://api.example", "http://10.0.0.1",
        "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://0.0.0.0", "http://2130706433",
        "http://0x7f.1", "http://127.1", "https://user:hunter2@api.example", "https://@api.example",
        "https://api.example/?token=hunter2", "https://api.example?", "https://api.example#x",
        "https://api.example:0", "https://api.example:99999", "https://api.example:", "https://api.example:x",
        "https://[::1", "https://[fe80::1%25eth0]", "https://a b", "https://api.example\\@evil", "https://api..example",
        "https://\u0430pi.example", "https://api.example\n",
    ],
)  # fmt: skip
def test_base_urls_that_are_refused_without_being_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, {"ALPHA_KEY": CANARY, "ALPHA_BASE_URL": url})
    message = str(caught.value)
    assert message.startswith(
        "setting providers.alpha.accounts.default.base_url (environment ALPHA_BASE_URL)"
    )
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("entry", "key", "right"),
    [
        ("{api_key = 'sk-a', max_in_flight = 0}", "accounts.default.max_in_flight", "from 1"),
        ("{api_key = 'sk-a', max_in_flight = '3'}", "accounts.default.max_in_flight", "a whole number"),
        ("{api_key = 'sk-a', submits_per_second = -1}", "accounts.default.submits_per_second", "above 0"),
        ("{api_key = 'sk-a', weight = 0}", "accounts.default.weight", "above 0"),
        ("{api_key = 'sk-a', simulated = true}", "accounts[0].simulated", "is not a setting"),
        ("{api_kye = 'sk-a'}", "accounts[0].api_kye", "the nearest is api_key"),
        ("{api_key = 'sk-a', name = 'a.b'}", "accounts[0].name", "letters, digits"),
        ("{api_key = 'sk-a', name = 5}", "accounts[0].name", "letters, digits"),
        ("{api_key = 'sk-a'}, {api_key = 'sk-b'}", "accounts[1].name", "'default' is used twice"),
        ("{name = 'x'}", "accounts.x.api_key", "is missing; give api_key or api_key_file"),
        (
            "{api_key = 'sk-a', api_key_file = 'x'}",
            "accounts.default.api_key",
            "both as a value and as a file",
        ),
        ("{api_key = 'sk-a', base_url = 5}", "accounts.default.base_url", "a text"),
        ("{api_key = 5}", "accounts.default.api_key", "must be a text"),
        ("5", "accounts", "must be a list of tables"),
    ],
)
def test_wrong_accounts_are_refused(tmp_path: Path, entry: str, key: str, right: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, toml=f"providers.alpha.accounts = [{entry}]")
    assert f"providers.alpha.{key} (motion-gateway.toml" in str(caught.value)
    assert right in str(caught.value)


def test_accounts_that_are_no_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be a list of tables"):
        loaded(tmp_path, toml="providers.alpha.accounts = {name = 'a'}")


def test_failover_is_set_by_code(tmp_path: Path) -> None:
    toml = "[providers.alpha.failover]\nrate_limited = 'next'\nunauthorized = 'retry'\n"
    variable = "MOTION_GATEWAY_PROVIDERS__BETA__FAILOVER__TIMEOUT"
    settings = loaded(tmp_path, {variable: "give_up"}, toml=toml).settings
    assert settings.providers["alpha"].failover == {"rate_limited": "next", "unauthorized": "retry"}
    assert settings.providers["beta"].failover == {"timeout": "give_up"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("content_rejected = 'next'", "cannot be set: rejected content that is submitted again can cost the"),
        ("invalid_media = 'retry'", "cannot be set: the same media is wrong everywhere"),
        ("submission_unknown = 'next'", "would be paid for twice"),
        ("rate_limited = 'wait'", "must be give_up, next or retry"),
        ("rate_limit = 'next'", "is not a setting; the nearest is providers.alpha.failover.rate_limited"),
    ],
)
def test_what_must_not_follow_an_error_is_refused(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, toml=f"[providers.alpha.failover]\n{line}\n")
    assert told in str(caught.value)
    assert "motion-gateway.toml" in str(caught.value)


def test_the_policy_and_failover_of_the_gateway(tmp_path: Path) -> None:
    routing = loaded(tmp_path, toml="[routing]\npolicy = 'fastest'\nfailover = false\n").settings.routing
    assert (routing.policy, routing.failover) == ("fastest", False)
    (tmp_path / "motion-gateway.toml").unlink()
    assert loaded(tmp_path).settings.routing.failover


def test_bounds_are_each_accounts_own_else_those_of_its_provider(tmp_path: Path) -> None:
    toml = (
        "[providers.alpha]\nmax_in_flight = 7\n"
        "accounts = [{api_key = 'sk-a', weight = 2.5}, {name = 'b', api_key = 'sk-b', max_in_flight = 1}]\n"
    )
    environ = {"MOTION_GATEWAY_PROVIDERS__ALPHA__SUBMITS_PER_SECOND": "2"}
    first, second = loaded(tmp_path, environ, toml=toml).settings.providers["alpha"].accounts
    assert (first.max_in_flight, first.weight, first.submits_per_second) == (7, 2.5, 2.0)
    assert (second.max_in_flight, second.weight, second.submits_per_second) == (1, 1.0, 2.0)
