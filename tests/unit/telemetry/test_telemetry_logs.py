from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import structlog

from gateway.telemetry import Redactor, bound, configure, get_logger, logs

CANARY = "sk-canary-0123456789abcdef"
PLAIN_CANARY = "loaded~secret~of~no~form"
MOMENT_MS = 1_795_248_000_007


class FixedClock:
    def now_ms(self) -> int:
        return MOMENT_MS

    def monotonic_s(self) -> float:
        return 0.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's own: put back what other tests rely on."""
    root = logging.getLogger()
    kept, level, showwarning = root.handlers[:], root.level, warnings.showwarning
    steps = logs._STEPS[:]
    yield
    logging.captureWarnings(False)
    warnings.showwarning = showwarning
    root.handlers[:] = kept
    root.setLevel(level)
    logs._STEPS[:] = steps
    logs._SINK.stream = None
    logs._install(logging.INFO, cache=False)
    structlog.contextvars.clear_contextvars()


def started(
    form: logs.Format = "json", level: logs.Level = "info", stream: io.StringIO | None = None
) -> io.StringIO:
    stream = stream or io.StringIO()
    configure(form, level, Redactor([PLAIN_CANARY]), stream, clock=FixedClock())
    return stream


def fail_with(api_key: str) -> NoReturn:
    raise RuntimeError(f"refused {api_key} and {PLAIN_CANARY}")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


def test_a_line_is_json_with_time_level_event_and_fields() -> None:
    stream = started()
    with bound(job="job_1"):
        get_logger("gateway.worker").warning("poll late", lag_s=1.5)
    assert stream.getvalue() == (
        '{"timestamp":"2026-11-21T08:00:00.007Z","level":"warning","event":"poll late",'
        '"logger":"gateway.worker","lag_s":1.5,"job":"job_1"}\n'
    )


def test_bound_fields_end_with_their_block() -> None:
    stream = started()
    with bound(job="job_1"):
        pass
    get_logger("a").info("x")
    assert "job" not in lines(stream)[0]


def test_lines_below_the_level_are_not_written() -> None:
    stream = started(level="warning")
    get_logger("a").info("x")
    logging.getLogger("b").info("x")
    assert stream.getvalue() == ""


def test_a_traceback_shows_no_locals_and_no_secrets() -> None:
    stream = started()
    try:
        fail_with(CANARY)
    except RuntimeError:
        get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed")
    assert "canary" not in stream.getvalue()
    assert PLAIN_CANARY not in stream.getvalue()
    assert all("RuntimeError: refused ******** and ********" in line["exception"] for line in lines(stream))


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_masked_wherever_they_stand(form: logs.Format) -> None:
    stream = started(form)
    log = get_logger("a")
    with bound(header=f"Bearer {CANARY}"):
        log.info("got %s", CANARY, api_key="anything-else", nested={"a": [PLAIN_CANARY]})
    log.info("%s", PLAIN_CANARY)
    logging.getLogger("uvicorn.error").warning("target %s", f"https://a.example/x?token={PLAIN_CANARY}")
    try:
        fail_with(CANARY)
    except RuntimeError:
        log.exception("failed")
    for text in ("canary", PLAIN_CANARY, "anything-else"):
        assert text not in stream.getvalue()
    assert "********" in stream.getvalue()


def test_fields_cannot_replace_time_level_event_or_logger() -> None:
    stream = started()
    get_logger("a").info("x", timestamp="t", level="l", logger="g")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("x", "info", "a")
    assert (line["timestamp_"], line["level_"], line["logger_"]) == ("t", "l", "g")


@pytest.mark.parametrize(
    "value", ["\ud800", 2**80, float("nan"), b"\xff", object(), {1: {2}}, "\u2028\n\x1b[31m"]
)
def test_any_value_gives_one_readable_line(value: object) -> None:
    stream = started()
    get_logger("a").info("x", value=value)
    assert len(lines(stream)) == 1


def test_the_console_form_cannot_be_steered_by_what_is_logged() -> None:
    stream = started("console")
    get_logger("a").info("x\n2026 [error] forged", value="\x1b[2Jy\r", **{"k\ney": 1})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert "\\n2026 [error] forged" in stream.getvalue()


def test_the_console_form_shows_tracebacks_line_by_line() -> None:
    stream = started("console")
    try:
        fail_with("it")
    except RuntimeError:
        get_logger("a").exception("failed")
    assert "\nRuntimeError: refused it and ********" in stream.getvalue()


def test_auto_is_for_people_on_a_terminal_only() -> None:
    assert started("auto").getvalue() == ""
    piped, terminal = io.StringIO(), Terminal()
    for stream in (piped, terminal):
        started("auto", stream=stream)
        get_logger("a").info("x")
    assert piped.getvalue().startswith("{")
    assert not terminal.getvalue().startswith("{")


@pytest.mark.parametrize(
    "name",
    ["httpx", "httpcore", "httpcore.connection", "aiohttp.access", "uvicorn.access", "alembic.runtime"],
)
def test_loggers_that_write_whole_urls_are_quiet(name: str) -> None:
    stream = started(level="debug")
    logging.getLogger(name).info("GET https://a.example/?token=x")
    assert stream.getvalue() == ""


def test_the_standard_librarys_loggers_come_out_in_the_same_form() -> None:
    stream = started()
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    started(stream=stream)
    with bound(job="job_1"):
        logging.getLogger("alembic.runtime").warning("upgrade %d", 3)
    logging.getLogger("uvicorn").warning("x")
    logging.getLogger("asyncio").error("y")
    assert [line["logger"] for line in lines(stream)] == ["alembic.runtime", "uvicorn", "asyncio"]
    assert lines(stream)[0]["event"] == "upgrade 3"
    assert lines(stream)[0]["job"] == "job_1"
    assert not logging.getLogger("uvicorn").handlers


def test_pythons_warnings_come_out_in_the_same_form() -> None:
    stream = started()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert lines(stream)[0]["logger"] == "py.warnings"


def test_a_record_that_cannot_be_rendered_is_named_without_its_text() -> None:
    logging.getLogger().handlers.clear()  # pytest's own would raise
    stream = started()
    logging.getLogger("b").warning("%d", CANARY)
    (line,) = lines(stream)
    assert (line["event"], line["problem"], line["logger"]) == ("log record lost", "TypeError", "b")


def test_a_closed_stream_loses_the_line_and_not_the_work() -> None:
    stream = started()
    stream.close()
    before = logs.lines_lost()
    get_logger("a").info("x")
    logging.getLogger("b").warning("x")
    assert logs.lines_lost() == before + 2


def test_a_used_logger_follows_a_new_configuration() -> None:
    first = started()
    log = get_logger("a")
    log.info("x")
    second = started("console")
    log.info("y")
    assert "y" not in first.getvalue()
    assert "y" in second.getvalue()


def test_what_is_logged_before_the_start_is_redacted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    get_logger("a").info("Bearer " + CANARY)
    assert lines(stream)[0]["event"] == "Bearer ********"
