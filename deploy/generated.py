"""Writes what is made from code: `METRICS.md` and the dashboard; `--check` tells whether they are true.

Usage: python deploy/generated.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dashboard import board
from reference import reference

HERE: Final = Path(__file__).parent
FILES: Final[Mapping[str, Callable[[], str]]] = {
    "METRICS.md": reference,
    "grafana/motion-gateway.json": board,
}


def main(arguments: list[str]) -> int:
    """Write or check every file; return the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: generated.py [--check]\n")
        return 2
    wrong = 0
    for name, make in FILES.items():
        path, text = HERE / name, make()
        if not arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            sys.stderr.write(f"wrote deploy/{name}\n")
        elif not path.exists() or path.read_text() != text:
            sys.stderr.write(f"deploy/{name} is not what the code says; run `make reference` and commit it\n")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
