"""The setting `database`: what it names, and that its password is shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings, load

URL = "postgresql://jobs:s3cr%2Ft@db.internal:5432/motion?sslmode=require&sslpassword=hush"


def test_a_server_needs_the_key_that_all_its_processes_share(tmp_path: Path) -> None:
    environ = {"MOTION_GATEWAY_DATABASE": URL}
    with pytest.raises(SettingsError, match="secret_key") as refused:
        load((), environ=environ, cwd=tmp_path)
    assert "MOTION_GATEWAY_DATABASE" in str(refused.value)
    loaded = load((), environ={**environ, "MOTION_GATEWAY_SECRET_KEY": "a key for tests"}, cwd=tmp_path)
    assert loaded.settings.database == URL


def test_its_passwords_are_secrets_and_not_shown() -> None:
    settings = Settings(database=URL)
    assert {"s3cr%2Ft", "s3cr/t", "hush"} <= set(settings.secrets())
    assert settings.database_shown == "postgresql://jobs@db.internal:5432/motion"


def test_people_are_shown_a_sockets_folder_and_a_file_as_they_are() -> None:
    assert Settings(database="postgresql:///motion?host=/run/pg").database_shown.endswith("?host=/run/pg")
    assert Settings(database="sqlite:///jobs.db").database_shown == "sqlite:///jobs.db"
