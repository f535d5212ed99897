from __future__ import annotations

import os
from pathlib import Path

import pytest
from settings_examples import CANARY, loaded

from gateway.errors import SettingsError


def refusal(folder: Path, environ: dict[str, str], toml: str | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, environ, toml=toml)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("name", ["MOTION_GATEWAY_SECRET_KEY_FILE", "ALPHA_KEY_FILE"])
def test_a_file_may_hold_the_secret(tmp_path: Path, name: str, ending: str) -> None:
    (tmp_path / "s").write_bytes(f"{CANARY}{ending}".encode())
    for path in ("s", str(tmp_path / "s")):
        assert loaded(tmp_path, {name: path}).settings.secrets() == (CANARY,)


def test_paths_in_a_file_start_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "s").write_text(CANARY)
    (tmp_path / "etc" / "m.toml").write_text("secret_key_file = 's'")
    settings = loaded(tmp_path, config=Path("etc/m.toml")).settings
    assert settings.secrets() == (CANARY,)


def test_the_environment_wins_over_a_file_that_need_not_exist_then(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path, {"MOTION_GATEWAY_SECRET_KEY": CANARY}, toml="secret_key_file = 'gone'"
    ).settings
    assert settings.secrets() == (CANARY,)


@pytest.mark.parametrize(
    ("plain", "key"), [("MOTION_GATEWAY_SECRET_KEY", "secret_key"), ("ALPHA_KEY", "api_key")]
)
def test_value_and_file_together_are_refused(tmp_path: Path, plain: str, key: str) -> None:
    message = refusal(tmp_path, {plain: CANARY, f"{plain}_FILE": "s"})
    assert f"{key} (environment {plain} and environment {plain}_FILE)" in message
    assert CANARY not in message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("changeme", "is a placeholder"),
        ("<your key>", "is a placeholder"),
        (f" {CANARY}", "without blanks at its ends"),
        (f"{CANARY}\n", "without blanks at its ends"),
        (f"{CANARY}\nx", "control characters"),
        (f"{CANARY}\u00e9", "visible ASCII"),
        (f"{CANARY} x", "visible ASCII"),
    ],
)
def test_keys_that_cannot_be_sent_are_refused_and_never_shown(tmp_path: Path, text: str, why: str) -> None:
    message = refusal(tmp_path, {"ALPHA_KEY": text})
    assert message.startswith("setting providers.alpha.accounts.default.api_key (environment ALPHA_KEY): ")
    assert why in message
    assert CANARY not in message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "not UTF-8"),
        (b"a" * 70_000, "larger"),
    ],
)
def test_files_that_hold_no_secret_are_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    message = refusal(tmp_path, {"ALPHA_KEY_FILE": "s"})
    assert "(environment ALPHA_KEY_FILE)" in message
    assert why in message


def test_a_folder_or_an_empty_name_is_no_secret_file(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path, {"ALPHA_KEY_FILE": os.fspath(tmp_path)})
    assert "is empty" in refusal(tmp_path, {"ALPHA_KEY_FILE": ""})


def test_a_secret_set_as_a_files_name_is_not_shown(tmp_path: Path) -> None:
    assert CANARY not in refusal(tmp_path, {"ALPHA_KEY_FILE": CANARY})
    assert CANARY not in refusal(tmp_path, {}, toml=f"secret_key_file = '{CANARY}'")


def test_a_nul_in_a_files_name_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    assert "secret_key" in refusal(tmp_path, {}, toml='secret_key_file = "a\\u0000b"')
