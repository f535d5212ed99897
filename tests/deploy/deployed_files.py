"""What is in `deploy/`, read for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gateway.registry import load_adapters
from gateway.settings.keys import declared_keys

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
Document = dict[str, Any]

VARIABLES = frozenset(declared_keys(load_adapters().specs).variables)
"""Every environment variable that is a setting."""
OURS = ("MOTION_GATEWAY_", "RUNWAYML_", "AIMLAPI_", "EACHLABS_")


def documents(path: Path) -> list[Document]:
    """All of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def unknown(names: Any) -> set[str]:
    """Which of these variables look like settings of ours and are none."""
    return {name for name in names if name.startswith(OURS)} - VARIABLES
