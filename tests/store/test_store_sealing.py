"""Secrets at rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import SettingsError
from gateway.storage.sealing import Sealer, key_beside

STEADY = settings(derandomize=True, database=None, deadline=None)


@STEADY
@given(st.text(), st.text(min_size=1))
def test_what_is_sealed_opens_again_in_its_place(text: str, place: str) -> None:
    sealer = Sealer("key")
    sealed = sealer.seal(text, bound_to=place)
    assert sealer.open(sealed, bound_to=place) == text


def test_the_same_text_is_never_sealed_alike_and_never_shown() -> None:
    sealer = Sealer("key")
    first, second = (sealer.seal("whsec_marker", bound_to="job_1") for _ in range(2))
    assert first != second
    assert "marker" not in first + second


@pytest.mark.parametrize(("key", "place"), [("another", "job_1"), ("key", "job_2"), ("key", "")])
def test_another_key_or_place_does_not_open_it(key: str, place: str) -> None:
    sealed = Sealer("key").seal("whsec_marker", bound_to="job_1")
    with pytest.raises(SettingsError) as caught:
        Sealer(key).open(sealed, bound_to=place)
    assert sealed not in str(caught.value)


def test_a_damaged_secret_does_not_open() -> None:
    sealed = Sealer("key").seal("whsec_marker", bound_to="job_1")
    for damaged in (sealed[:-6], sealed[:-1], sealed[:9], "", "v1.", "v1.%%%", sealed.swapcase()):
        with pytest.raises(SettingsError):
            Sealer("key").open(damaged, bound_to="job_1")


def test_the_key_beside_a_database_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    key = key_beside(database)
    file = tmp_path / "gateway.db.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(key) == 64
    assert key_beside(database) == key


def test_an_empty_key_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "gateway.db.key").write_text("\n")
    with pytest.raises(SettingsError, match="restore it from a backup"):
        key_beside(tmp_path / "gateway.db")
