from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from settings_examples import CANARY, loaded

from gateway.errors import SettingsError
from gateway.settings import Settings


def test_defaults_are_the_models(tmp_path: Path) -> None:
    result = loaded(tmp_path)
    assert msgspec.structs.replace(result.settings, providers={}) == Settings()
    assert set(result.origins.values()) == {"default"}
    assert result.origins["server.port"] == "default"


def test_later_places_win_and_are_named(tmp_path: Path) -> None:
    toml = "[server]\nport = 1\nhost = 'localhost'\ntarget_max = 512\n[worker]\nconcurrency = 3\n"
    environ = {"MOTION_GATEWAY_SERVER__PORT": "2", "MOTION_GATEWAY_SERVER__HOST": "::1"}
    result = loaded(tmp_path, environ, toml=toml, overrides={"server.port": 3, "database": None})
    assert result.settings.server.port == 3
    assert result.settings.server.host == "::1"
    assert result.settings.server.target_max == 512
    assert result.settings.worker.concurrency == 3
    assert result.origins["server.port"] == "--port"
    assert result.origins["server.host"] == "environment MOTION_GATEWAY_SERVER__HOST"
    assert result.origins["server.target_max"] == "motion-gateway.toml"
    assert result.origins["database"] == "default"


def test_the_file_is_the_given_one_then_the_variables_then_the_folders(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("server.port = 1")
    (tmp_path / "b.toml").write_text("server.port = 2")
    environ = {"MOTION_GATEWAY_CONFIG": "b.toml"}
    toml = "server.port = 3"
    assert loaded(tmp_path, environ, toml=toml, config=Path("a.toml")).settings.server.port == 1
    assert loaded(tmp_path, environ).settings.server.port == 2
    result = loaded(tmp_path)
    assert (result.settings.server.port, result.origins["server.port"]) == (3, "motion-gateway.toml")


@pytest.mark.parametrize("config", [Path("missing.toml"), Path()])
def test_a_named_file_that_cannot_be_read_is_refused(tmp_path: Path, config: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        loaded(tmp_path, config=config)


@pytest.mark.parametrize("variable", ["missing.toml", "", " "])
def test_a_variable_that_names_no_file_is_refused(tmp_path: Path, variable: str) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml|MOTION_GATEWAY_CONFIG"):
        loaded(tmp_path, {"MOTION_GATEWAY_CONFIG": variable})


@pytest.mark.parametrize("content", [b"server = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "motion-gateway.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"configuration file \(motion-gateway\.toml\): is not"):
        loaded(tmp_path)


def test_every_setting_can_be_set_by_its_variable(tmp_path: Path) -> None:
    environ = {
        "MOTION_GATEWAY_DATABASE": "sqlite:////var/lib/gateway.db",
        "MOTION_GATEWAY_SECRET_KEY": CANARY,
        "MOTION_GATEWAY_METRICS__OPEN": "yes",
        "MOTION_GATEWAY_AUTH__REQUIRED": "0",
        "MOTION_GATEWAY_JOBS__ON_UNKNOWN_SUBMISSION": "hold",
        "MOTION_GATEWAY_ROUTING__PROVIDERS": "beta, alpha",
        "MOTION_GATEWAY_WEBHOOKS__ALLOWED_NETWORKS": "10.0.0.0/8,fd00::/8, 127.0.0.1",
        "MOTION_GATEWAY_WEBHOOKS__ALLOWED_HOSTS": "Receiver.Local",
        "MOTION_GATEWAY_WEBHOOKS__SCHEDULE_S": "0,1.5,30",
        "MOTION_GATEWAY_WORKER__IDLE_S": "0.25",
        "MOTION_GATEWAY_LOGS__FORMAT": "json",
        "MOTION_GATEWAY_PROVIDERS__ALPHA__POLL_SCALE": "0.01",
        "MOTION_GATEWAY_PROVIDERS__ALPHA__POLLS_PER_JOB": "12",
        "MOTION_GATEWAY_PROVIDERS__ALPHA__OPTIONS__PATH": "legacy",
        "MOTION_GATEWAY_MEDIA__ALLOWED_NETWORKS": "",
    }
    settings = loaded(tmp_path, environ).settings
    assert settings.database == "sqlite:////var/lib/gateway.db"
    assert settings.secret_key is not None
    assert settings.secret_key.reveal() == CANARY
    assert settings.metrics.open
    assert not settings.auth.required
    assert settings.routing.providers == ("beta", "alpha")
    assert settings.webhooks.allowed_networks == ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")
    assert settings.webhooks.allowed_hosts == ("receiver.local",)
    assert settings.webhooks.schedule_s == (0.0, 1.5, 30.0)
    assert settings.worker.idle_s == 0.25
    assert settings.logs.format == "json"
    assert settings.providers["alpha"].poll_scale == 0.01
    assert (settings.providers["alpha"].polls_per_job, settings.providers["beta"].polls_per_job) == (12, 8)
    assert settings.providers["alpha"].options == {"path": "legacy"}
    assert settings.media.allowed_networks == ()


def test_whole_numbers_are_taken_for_durations(tmp_path: Path) -> None:
    toml = "[webhooks]\ntimeout_s = 20\nschedule_s = [0, 5]\n"
    assert loaded(tmp_path, toml=toml).settings.webhooks.schedule_s == (0.0, 5.0)


def test_the_command_line_may_give_texts(tmp_path: Path) -> None:
    settings = loaded(tmp_path, overrides={"server.port": "81", "logs.level": "debug"}).settings
    assert (settings.server.port, settings.logs.level) == (81, "debug")


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = loaded(tmp_path).settings
    with pytest.raises(AttributeError):
        settings.server.port = 1  # type: ignore[misc]  # this is what must fail
