"""Two made-up providers, and a way to load settings for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.settings import Loaded, load
from providers.contract.spec import OptionSpec, Source, Standing
from providers.runway.spec import SPEC

SOURCE = Source("made up", "2026-11-21", Standing.INFERRED)
ALPHA = msgspec.structs.replace(
    SPEC,
    name="alpha",
    base_url="https://api.alpha.example",
    base_url_env="ALPHA_BASE_URL",
    key_env="ALPHA_KEY",
    options=(OptionSpec(name="path", values=("current", "legacy"), meaning="Which path.", source=SOURCE),),
)
BETA = msgspec.structs.replace(
    SPEC,
    name="beta",
    base_url="https://api.beta.example",
    base_url_env="BETA_BASE_URL",
    key_env="BETA_SECRET",
)
CANARY = "sk-canary-0123456789abcdef"


def loaded(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    toml: str | None = None,
    config: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    """Load with `folder` as the working directory, and `toml` as its motion-gateway.toml."""
    if toml is not None:
        (folder / "motion-gateway.toml").write_text(toml, "utf-8")
    return load(
        (ALPHA, BETA), environ=environ or {}, config_path=config, cwd=folder, overrides=overrides or {}
    )
