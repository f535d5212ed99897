"""The terminal: tables and bars for people, plain lines where nobody watches (CI, a pipe, a file)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from gateway.jobs.view import JobView
from providers.contract.status import JobStatus

PLAIN_WIDTH = 140
"""Columns where the output is no terminal, so that a table is not folded to rich's 80."""
_COLORS = {
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELLED: "yellow",
}

Show = Callable[[str, JobView], None]
"""Shows how the job of that label stands."""


def open_console(*, stderr: bool = False) -> Console:
    """Return where to print; wide where it is no terminal."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


@contextmanager
def job_progress(console: Console) -> Generator[Show]:
    """Show jobs as they go: a bar each on a terminal, else a line for each step."""
    if not console.is_terminal:
        yield _Lines(console).show
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TextColumn("{task.fields[word]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress).show


@contextmanager
def busy(console: Console, text: str) -> Generator[Callable[[str], None]]:
    """Show that something is under way; yields what changes the text. Nothing where nobody watches."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True
    ) as progress:
        task = progress.add_task(text, total=None)
        yield lambda now: progress.update(task, description=now)


@contextmanager
def measured(console: Console, text: str) -> Generator[Callable[[int, int], None]]:
    """Show how far something is; yields what takes how much is done, and of how much."""
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def word_of(job: JobView) -> str:
    """Say how a job stands: `running 42%`, `held (submission_unknown)`, `failed (timeout)`."""
    if job.held is not None:
        return f"held ({job.held.reason})"
    if job.error is not None:
        return f"{job.status} ({job.error.code})"
    if job.status is JobStatus.RUNNING and job.progress is not None:
        return f"{job.status} {job.progress:.0%}"
    return str(job.status)


def printable(text: str) -> str:
    """Return foreign text fit for a terminal: control characters, which could steer it, are spelled out."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, label: str, job: JobView) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=None, word="")
        task, status = self._tasks[label], job.status
        color = _COLORS.get(status)
        known = job.progress is not None or status.terminal
        done = 1.0 if status is JobStatus.SUCCEEDED else job.progress or 0.0
        word = word_of(job)
        self._progress.update(
            task,
            total=1.0 if known else None,
            completed=done,
            word=f"[{color}]{word}[/]" if color else word,
        )
        if status.terminal:
            self._progress.stop_task(task)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, tuple[object, ...]] = {}

    def show(self, label: str, job: JobView) -> None:
        quarter = None if job.progress is None else int(job.progress * 4)
        step = (job.status, quarter, job.held is not None)
        if self._last.get(label) != step:
            self._last[label] = step
            self._console.print(Text(f"{label}  {word_of(job)}"))
