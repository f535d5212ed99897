"""Logs: one JSON document a line, or lines for people, on one stream; secrets taken out last of all.

What the standard library's loggers say (uvicorn, alembic, asyncio, Python's warnings) goes through the same
steps. Tracebacks never show local variables. A line that cannot be written is counted, never raised into the
work that wanted to log it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Final, Literal, TextIO, cast

import msgspec
import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import format_exc_info
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.clock import Clock, SystemClock
from gateway.telemetry.redaction import Redactor

__all__ = ["Format", "Level", "bound", "configure", "get_logger", "lines_lost", "request_id"]

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

_LEVELS: Final[Mapping[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: At INFO they log whole URLs, or what our own start-up lines say better.
_QUIET: Final = ("httpx", "httpcore", "aiohttp.access", "uvicorn.access", "uvicorn.error", "alembic")
#: They bring handlers of their own.
_FOREIGN: Final = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "alembic",
    "aiohttp",
    "asyncio",
    "py.warnings",
)


#: The HTTP request under way; a variable of its own, since `bound` costs ten times as much on every request.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    found = request_id.get()
    if found is not None:
        event.setdefault("request_id", found)
    return event


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of that name; it may be made before `configure` and is used after it."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def configure(
    format: Format,  # noqa: A002  (the setting's own name, logs.format)
    level: Level,
    redactor: Redactor,
    stream: TextIO,
    *,
    clock: Clock | None = None,
) -> None:
    """Set up all logging of the process. Call it once, at start.

    A further call redirects every logger; a logger that was used before keeps its level.

    Args:
        format: `auto` is `console` on a terminal and `json` elsewhere.
        level: the least important level that is written.
        redactor: knows the loaded secrets.
        stream: usually stderr.
        clock: gives the timestamps; the machine's own when left out.
    """
    people = format == "console" or (format == "auto" and stream.isatty())
    _SINK.stream = stream
    # The lists are changed in place: loggers that were used already hold on to them.
    _STEPS[:] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        format_exc_info,
        _Finish(redactor, clock or SystemClock()),
        *([_one_line, _console(colors=stream.isatty())] if people else [_encode]),
    ]
    _install(_LEVELS[level], cache=True)
    _take_over_stdlib(_LEVELS[level])


def lines_lost() -> int:
    """How many lines could not be written since the process began."""
    return _SINK.lost


class _Sink:
    """Writes finished lines to the stream."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        """None: whatever stderr is at that moment."""
        self.lost = 0
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        stream = self.stream or sys.stderr
        with self._lock:
            try:
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError):  # reader gone, disk full, stream closed
                self.lost += 1


_SINK: Final = _Sink()
_STEPS: Final[list[Processor]] = []


class _Named:
    """structlog's innermost logger: knows its name; its methods, named after levels, get finished lines."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        _SINK.write(line)

    debug = info = warning = error = critical = write


class _Finish:
    """Adds time and level, takes secrets out, and puts the fields everyone looks for first."""

    def __init__(self, redactor: Redactor, clock: Clock) -> None:
        self._redactor = redactor
        self._now_ms = clock.now_ms
        self._second: int = -1
        self._prefix = ""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        head: dict[str, object] = {
            "timestamp": self._timestamp(),
            "level": method,
            "event": self._redactor.value(event.pop("event", "")),
            "logger": logger.name,
        }
        # Fields that would hide the four above are kept under another name.
        rest = self._redactor.fields(cast("Mapping[object, object]", event))
        for name in head.keys() & rest.keys():
            rest[f"{name}_"] = rest.pop(name)
        return head | rest

    def _timestamp(self) -> str:
        now_ms = self._now_ms()
        second = now_ms // 1000
        prefix = self._prefix
        if second != self._second:
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._prefix, self._second = prefix, second
        return f"{prefix}.{now_ms % 1000:03d}Z"


_encode_json: Final = msgspec.json.Encoder().encode


def _encode(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        return _encode_json(event).decode()
    except (UnicodeEncodeError, OverflowError, RecursionError, TypeError):
        return json.dumps(event, default=repr)  # escapes lone surrogates, which UTF-8 cannot carry


def _console(*, colors: bool) -> ConsoleRenderer:
    return ConsoleRenderer(colors=colors, exception_formatter=plain_traceback, sort_keys=False)


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, so that no logged text can forge a line or steer the terminal."""
    return {
        key if key.isprintable() else ascii(key): _visible(value, keep="\n\t" if key == "exception" else "")
        for key, value in event.items()
    }


def _visible(value: object, *, keep: str) -> object:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(
        character if character.isprintable() or character in keep else ascii(character)[1:-1]
        for character in value
    )


class _Bridge(logging.Handler):
    """Takes the standard library's records through the same steps."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: MutableMapping[str, object] = {"event": record.getMessage()}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            _run(record.name, record.levelname.lower(), event)
        except Exception as error:  # noqa: BLE001  (a record that cannot be rendered must not stop its caller)
            # The record's own text is left out: what broke the rendering may hold a secret.
            _run(record.name, "error", {"event": "log record lost", "problem": type(error).__name__})


def _run(name: str, method: str, event: MutableMapping[str, object]) -> None:
    line: object = event
    logger = _Named(name)
    for step in _STEPS:
        line = cast("Callable[..., object]", step)(logger, method, line)
    _SINK.write(str(line))


def _take_over_stdlib(level: int) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Bridge) or type(handler).__module__ == "logging":
            root.removeHandler(handler)
    root.addHandler(_Bridge())
    root.setLevel(level)
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def _install(level: int, *, cache: bool) -> None:
    structlog.configure(
        processors=_STEPS,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Named,
        cache_logger_on_first_use=cache,
    )


# What is logged before `configure` is redacted as well: structlog's own default shows local variables.
_STEPS[:] = [
    structlog.contextvars.merge_contextvars,
    _add_request,
    format_exc_info,
    _Finish(Redactor(), SystemClock()),
    _encode,
]
_install(logging.INFO, cache=False)
