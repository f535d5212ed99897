"""What goes into the demo: a character and a performance, drawn by code or given as files."""

from __future__ import annotations

import mimetypes
from hashlib import sha256
from pathlib import Path

import click
from msgspec import Struct

from gateway.simulator.fetch import UnusableMedia
from gateway.simulator.media import Asset, Inputs, measure
from gateway.simulator.samples import sample_character, sample_performance
from providers.contract.motion import CharacterType

SAMPLE_S = 4.0


class DemoInputs(Struct, frozen=True, kw_only=True):
    """Two files, looked at."""

    character: Path
    character_type: CharacterType
    reference: Path
    duration_s: float
    """Of the reference."""


def prepare(folder: Path, character: Path | None, reference: Path | None) -> DemoInputs:
    """Return the inputs, drawing into `folder` those that are not given. Takes a second or two.

    Raises:
        click.BadParameter: a given file cannot be used; the text says why.
    """
    if character is None:
        character = folder / "character.png"
        character.write_bytes(sample_character())
    if reference is None:
        reference = folder / "performance.mp4"
        reference.write_bytes(sample_performance(SAMPLE_S))
    kind = CharacterType.VIDEO if content_type(character).startswith("video/") else CharacterType.IMAGE
    seen = Inputs(character_type=kind, character=_asset(character), reference=_asset(reference))
    try:
        duration_s = measure(seen)
    except UnusableMedia as problem:
        given = character if problem.option == "character" else reference
        raise click.BadParameter(f"{given}: {problem.reason}", param_hint=f"--{problem.option}") from problem
    return DemoInputs(character=character, character_type=kind, reference=reference, duration_s=duration_s)


def content_type(path: Path) -> str:
    """Return the media type that a file's name claims."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _asset(path: Path) -> Asset:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from error
    return Asset(data=data, digest=sha256(data).hexdigest())
