"""How many may watch where few files may be open."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.open_files import fit
from gateway.settings.model import Server, Settings


@pytest.mark.parametrize(
    ("wanted", "files", "allowed"),
    [(5000, 65_536, 5000), (5000, 5512, 5000), (5000, 1024, 512), (100, 1024, 100), (5000, 256, 8)],
)
def test_as_many_may_watch_as_there_are_files_for(
    wanted: int, files: int, allowed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(server=Server(watchers_max=wanted), database=f"sqlite:///{Path('x.db')}")
    fitted = fit(settings, files)
    assert fitted.server.watchers_max == allowed
    assert fitted.database == settings.database
    assert ("serve.few_files" in capfd.readouterr().err) == (allowed < wanted)
