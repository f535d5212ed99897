"""`deploy/Dockerfile`, read: as much of the syntax as it uses."""

from __future__ import annotations

import re

from deployed_files import DEPLOY
from msgspec import Struct


class Instruction(Struct, frozen=True):
    """A line, with those that it goes on in."""

    name: str
    text: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        if name:
            found[-1].append(Instruction(name, rest.strip()))
    return found
