"""A reader of the documentation: does what a page says, in its order, in one folder."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A fence at the start of a line, its language, what it holds.
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*match) for match in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def bare(line: str) -> str:
    """A line of a shell block without its comment."""
    return re.split(r"\s+#", line)[0]


def script(page: Path, skipped: set[str]) -> str:
    """What a reader of a page does, as one script: shell blocks as they are, Python blocks each in a process.

    Commands that are in `skipped` are left out.
    """
    lines = ["set -euo pipefail"]
    for block in blocks(page):
        if block.language == "sh":
            lines += [line for line in block.text.splitlines() if bare(line) not in skipped]
        if block.language == "python":
            lines += ["python - <<'END-OF-PYTHON'", block.text.rstrip("\n"), "END-OF-PYTHON"]
    return "\n".join(lines) + "\n"


def follow(page: Path, folder: Path, *, skipped: set[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Do what a page says in `folder`, where `.venv` is this environment, as after the installation."""
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-x", "-c", script(page, skipped)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=3600,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
    )
