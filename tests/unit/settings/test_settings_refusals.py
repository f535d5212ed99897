from __future__ import annotations

from pathlib import Path

import pytest
from settings_examples import CANARY, loaded

from gateway.errors import SettingsError


def refusal(folder: Path, environ: dict[str, str] | None = None, toml: str | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, environ, toml=toml)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "right"),
    [
        ("SERVER__PORT", "65536", "a whole number from 0 to 65535"),
        ("SERVER__PORT", "-1", "a whole number from 0 to 65535"),
        ("SERVER__PORT", "80.0", "a whole number"),
        ("SERVER__PORT", "1_000", "a whole number"),
        ("SERVER__PORT", " 80", "a whole number"),
        ("SERVER__PORT", "+80", "a whole number"),
        ("SERVER__PORT", "\u0661\u0662", "a whole number"),
        ("SERVER__PORT", "", "a whole number"),
        ("SERVER__PORT", "9" * 5000, "a whole number"),
        ("SERVER__HOST", "", "a text"),
        ("SERVER__HOST", "a b", "an IP address or a host name"),
        ("SERVER__HOST", "localhost:80", "an IP address or a host name"),
        ("WORKER__IDLE_S", "0", "a number above 0 and at most 3600"),
        ("WORKER__IDLE_S", "nan", "a number above 0"),
        ("WORKER__IDLE_S", "inf", "a number above 0"),
        ("WORKER__IDLE_S", "1e3", "a number above 0"),
        ("WEBHOOKS__JITTER", "1.1", "a number from 0 to 1"),
        ("WEBHOOKS__SCHEDULE_S", "", "a list with at least 1 entries and with at most 50 entries"),
        ("WEBHOOKS__SCHEDULE_S", "0,,5", "a list"),
        ("WEBHOOKS__SCHEDULE_S", "0,-5", "a list"),
        ("METRICS__OPEN", "on", "true or false"),
        ("LIMITS__RATE", "60", "such as 60/m"),
        ("LIMITS__MAX_IN_FLIGHT", "none", "a whole number from 0 to 1000000"),
        ("LIMITS__MAX_QUEUED", "0", "a whole number from 1 to 10000000"),
        ("METRICS__OPEN", "", "true or false"),
        ("LOGS__FORMAT", "xml", "auto, console or json"),
        ("LOGS__LEVEL", "INFO", "debug, error, info or warning"),
        ("JOBS__DEADLINE_S", "59", "a whole number from 60 to 86400"),
        ("JOBS__ON_UNKNOWN_SUBMISSION", "retry", "fail, hold or resubmit"),
        ("SERVER__PUBLIC_URL", "http://gateway.example", "https"),
        ("SERVER__PUBLIC_URL", "", "https"),
        ("WEBHOOKS__ALLOWED_NETWORKS", "10.0.0.1/8", "write 10.0.0.0/8"),
        ("WEBHOOKS__ALLOWED_NETWORKS", "ten", "is no network"),
        ("MEDIA__ALLOWED_NETWORKS", "::1/129", "is no network"),
        ("WEBHOOKS__ALLOWED_HOSTS", "https://a.example", "is no host name"),
        ("WEBHOOKS__ALLOWED_HOSTS", "a.example:80", "is no host name"),
        ("WEBHOOKS__ALLOWED_HOSTS", "*.example", "is no host name"),
        ("WEBHOOKS__ALLOWED_HOSTS", "127.0.0.1", "is no host name"),
        ("WEBHOOKS__ALLOWED_HOSTS", "a..b", "is no host name"),
        ("DATABASE", "postgresql://u:pw@db", "must name a database"),
        ("DATABASE", "postgresql://u:pw@db/a/b", "must name a database"),
        ("DATABASE", "postgresql://u:pw@db:port/x", "must be a URL"),
        ("DATABASE", "postgresql://u:p w@db/x", "without fragment, spaces"),
        ("DATABASE", "postgresql+psycopg://db/x", "must be sqlite:///PATH"),
        ("DATABASE", "mysql://db/x", "must be sqlite:///PATH"),
        ("DATABASE", "sqlite://", "must be sqlite:///PATH"),
        ("DATABASE", "sqlite:///", "must be sqlite:///PATH"),
        ("DATABASE", "sqlite:///:memory:", "must be sqlite:///PATH"),
        ("DATABASE", "sqlite:///a.db?mode=ro", "without ?"),
        ("DATABASE", "jobs.db", "must be sqlite:///PATH"),
        ("PROVIDERS__ALPHA__POLL_SCALE", "0", "a number above 0 and at most 100"),
        ("PROVIDERS__ALPHA__OPTIONS__PATH", "new", "current or legacy"),
        ("ROUTING__PROVIDERS", "alhpa", "'alhpa' is not an installed provider; the nearest is alpha"),
        ("ROUTING__PROVIDERS", "alpha,alpha", "'alpha' is listed twice"),
        ("WORKER__HEARTBEAT_S", "10.5", "at most half of lease_s, that is, 10"),
        ("WORKER__LEASE_S", "4", "at most half of lease_s, that is, 2"),
    ],
)
def test_a_wrong_value_is_refused_with_key_origin_and_what_is_right(
    tmp_path: Path, variable: str, text: str, right: str
) -> None:
    message = refusal(tmp_path, {f"MOTION_GATEWAY_{variable}": text})
    assert message.startswith(f"setting {variable.lower().replace('__', '.')} ")
    assert f"(environment MOTION_GATEWAY_{variable})" in message
    assert right in message
    assert "pw@" not in message


@pytest.mark.parametrize(
    ("toml", "key", "right"),
    [
        ("server.port = '80'", "server.port", "a whole number"),
        ("server.port = 80.0", "server.port", "a whole number"),
        ("server.port = true", "server.port", "a whole number"),
        ("worker.idle_s = nan", "worker.idle_s", "a number above 0"),
        ("worker.idle_s = inf", "worker.idle_s", "a number above 0"),
        ("metrics.open = 1", "metrics.open", "true or false"),
        ("server.host = 5", "server.host", "a text"),
        ("server.host = 1979-05-27", "server.host", "a text"),
        ("webhooks.allowed_hosts = 'a'", "webhooks.allowed_hosts", "a list, each a text"),
        ("webhooks.schedule_s = []", "webhooks.schedule_s", "at least 1"),
        ("secret_key = 5", "secret_key", "must be a text"),
        ("server = 5", "server", "must be a table, written [server]"),
        ("providers = []", "providers", "must be a table"),
        ("database = {}", "database", "a text"),
        ("server.prot = 5", "server.prot", "the nearest is server.port"),
        ("sever.port = 5", "sever", "the nearest is server"),
        ("'server.port' = 5", "server.port", "is not a setting"),
        ("public_url = 'https://x'", "public_url", "is not a setting"),
        ("providers.alhpa.enabled = true", "providers.alhpa", "the nearest is providers.alpha"),
        ("providers.alpha.poll_sclae = 1", "providers.alpha.poll_sclae", "providers.alpha.poll_scale"),
        ("providers.alpha.options.pth = 'x'", "providers.alpha.options.pth", "providers.alpha.options.path"),
        ("providers.alpha.options.path = 'x'", "providers.alpha.options.path", "current or legacy"),
        ("providers.beta.options.path = 'x'", "providers.beta.options.path", "is not a setting"),
        ("providers.alpha.enabled = true", "providers.alpha.enabled", "there is no account; set ALPHA_KEY"),
        ("database_file = 'x'", "database_file", "the nearest is database"),
    ],
)
def test_a_wrong_file_is_refused_with_key_origin_and_what_is_right(
    tmp_path: Path, toml: str, key: str, right: str
) -> None:
    message = refusal(tmp_path, toml=toml)
    assert message.startswith(f"setting {key} (motion-gateway.toml): ")
    assert right in message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MOTION_GATEWAY_SERVER__PROT", "MOTION_GATEWAY_SERVER__PORT"),
        ("MOTION_GATEWAY_SERVER_PORT", "MOTION_GATEWAY_SERVER__PORT"),
        ("MOTION_GATEWAY_server__port", "MOTION_GATEWAY_"),
        ("MOTION_GATEWAY_DATABASE_FILE", "MOTION_GATEWAY_DATABASE"),
        ("MOTION_GATEWAY_PROVIDERS__ALPHA__POL_SCALE", "MOTION_GATEWAY_PROVIDERS__ALPHA__POLL_SCALE"),
        ("MOTION_GATEWAY_", "MOTION_GATEWAY_"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(tmp_path: Path, name: str, near: str) -> None:
    message = refusal(tmp_path, {name: CANARY})
    assert f"{name} (environment): is not a setting; the nearest is {near}" in message
    assert CANARY not in message


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    foreign = {
        "MOTION_GATEWAY_URL": "x",
        "MOTION_GATEWAY_KEY": "x",
        "MOTION_GATEWAY_TEST_POSTGRES": "x",
        "A": "b",
    }
    assert loaded(tmp_path, foreign).settings == loaded(tmp_path).settings


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    environ = {"MOTION_GATEWAY_SERVER__PORT": "x", "MOTION_GATEWAY_NONSENSE": "x", "ALPHA_KEY": ""}
    message = refusal(tmp_path, environ, toml="logs.level = 'x'\nfoo = 1\n")
    assert message.startswith("5 settings are wrong:\n")
    for part in ("server.port", "MOTION_GATEWAY_NONSENSE", "alpha", "logs.level", "foo"):
        assert part in message


def test_a_broken_file_hides_no_other_problem(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"MOTION_GATEWAY_SERVER__PORT": "x"}, toml="=")
    assert "server.port" in message
    assert "configuration file" in message


def test_an_unknown_override_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"server\.prot \(--prot\): is not a setting"):
        loaded(tmp_path, overrides={"server.prot": 1})


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_calls_without_a_key_are_for_loopback_only(tmp_path: Path, host: str, *, accepted: bool) -> None:
    overrides = {"server.host": host, "auth.required": False}
    if accepted:
        assert not loaded(tmp_path, overrides=overrides).settings.auth.required
    else:
        with pytest.raises(SettingsError, match=r"auth\.required .* loopback only"):
            loaded(tmp_path, overrides=overrides)
