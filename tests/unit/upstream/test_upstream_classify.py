"""The rule for money, row by row, for a made-up provider and for every installed one."""

from __future__ import annotations

from typing import Any

import pytest
from job_examples import OUTPUT_URL, an_adapter, reply
from msgspec.structs import replace

from gateway.registry import load_adapters
from gateway.upstream.classify import (
    Done,
    Made,
    Missing,
    NotMade,
    Seen,
    Trouble,
    Unknown,
    Withheld,
    cancelling,
    poll,
    submission,
)
from gateway.upstream.client import Reply
from providers.contract.adapter import Adapter
from providers.contract.errors import ErrorCode
from providers.contract.exchange import HttpResponse
from providers.contract.status import JobStatus

ACME = an_adapter()
EVERY = [ACME, *load_adapters().adapters.values()]
UNREADABLE = [
    b"",
    b"ok",
    b"<html>sorry</html>",
    b'{"id": "r-1"',
    b"[]",
    b"null",
    b"{}",
    b'{"id": 7}',
    b'{"id": ""}',
    b'{"id": "../../admin"}',
    b'{"id": "a\\nb"}',
    b'{"id": "' + b"a" * 10_000 + b'"}',
    b"\xff\xfe",
    b'{"id": NaN}',
    b"[" * 5000,
    b" " * 2_000_000 + b"{}",
]
DEFINITE = [status for status in range(400, 500) if status != 408]
INDEFINITE = [100, 102, 199, *range(300, 309), 408, *range(500, 512), 599]


def answered(status: int, body: bytes = b"", *, retry_after: str | None = None) -> Reply:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    response = HttpResponse(status=status, headers=headers, body=body)
    return Reply(response=response, connected=True, duration_s=0.1)


def unanswered(*, connected: bool) -> Reply:
    return Reply(response=None, failure="ReadError: gone", connected=connected, duration_s=0.1)


def named(adapter: Adapter) -> str:
    return adapter.spec.name


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_without_a_connection_nothing_was_made(adapter: Adapter) -> None:
    outcome = submission(adapter, unanswered(connected=False))
    assert isinstance(outcome, NotMade)
    assert outcome.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert "gone" in outcome.error.message


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_with_a_connection_and_no_answer_it_is_unknown(adapter: Adapter) -> None:
    outcome = submission(adapter, unanswered(connected=True))
    assert isinstance(outcome, Unknown)
    assert "gone" in outcome.reason


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_a_2xx_that_can_be_read_is_made(status: int) -> None:
    assert submission(ACME, answered(status, b'{"id": "r-1"}')) == Made("r-1")


@pytest.mark.parametrize("adapter", EVERY, ids=named)
@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_2xx_that_cannot_be_read_is_unknown(adapter: Adapter, body: bytes) -> None:
    assert isinstance(submission(adapter, answered(200, body)), Unknown)


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_a_definite_4xx_was_not_made_whatever_its_body(adapter: Adapter) -> None:
    for status in DEFINITE:
        for body in (b"", b'{"id": "r-1"}', b"\xff", b"<html>"):
            assert isinstance(submission(adapter, answered(status, body)), NotMade), (status, body)


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_every_other_status_is_unknown_whatever_its_body(adapter: Adapter) -> None:
    for status in INDEFINITE:
        for body in (b"", b'{"id": "r-1"}', b'{"error": "nothing was made"}'):
            outcome = submission(adapter, answered(status, body))
            assert isinstance(outcome, Unknown), (status, body)
            assert str(status) in outcome.reason


def breaks(_reply: HttpResponse) -> Any:
    raise KeyError("a bug of the adapter")


def test_an_adapter_that_breaks_on_an_answer_changes_nothing_about_the_money() -> None:
    broken = replace(ACME, parse_submit=breaks, parse_failure=breaks)
    made = submission(broken, answered(201, b'{"id": "r-1"}'))
    assert isinstance(made, Unknown)
    assert "(201): KeyError" in made.reason
    assert isinstance(submission(broken, answered(422)), NotMade)
    assert isinstance(submission(broken, answered(500)), Unknown)
    assert isinstance(cancelling(broken, answered(409)), Trouble)
    assert isinstance(poll(broken, answered(500), allow_http=False), Trouble)


def test_a_refusal_keeps_the_reason_and_the_retry_after() -> None:
    body = b'{"code": "BUSY", "message": "come back"}'
    outcome = submission(ACME, answered(429, body, retry_after="7"))
    assert isinstance(outcome, NotMade)
    error = outcome.error
    assert (error.code, error.message, error.provider_code) == (ErrorCode.RATE_LIMITED, "come back", "BUSY")
    assert outcome.retry_after == "7"


def polled(document: Any, status: int = 200) -> Any:
    return poll(
        ACME, Reply(response=reply(status, document), connected=True, duration_s=0.1), allow_http=False
    )


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_poll_that_can_be_read_says_how_the_job_stands(status: JobStatus) -> None:
    outcome = polled({"status": status.value, "url": OUTPUT_URL})
    assert isinstance(outcome, Seen)
    assert (outcome.update.status, outcome.update.drift) == (status, False)


def test_a_success_without_a_usable_url_is_doubted() -> None:
    for document in ({"status": "SUCCEEDED"}, {"status": "SUCCEEDED", "url": "http://cdn.example/a.mp4"}):
        outcome = polled(document)
        assert isinstance(outcome, Seen)
        assert outcome.update.drift


def test_plain_http_results_are_taken_from_a_provider_reached_by_plain_http() -> None:
    document = {"status": "SUCCEEDED", "url": "http://127.0.0.1:1/a.mp4"}
    answer = Reply(response=reply(200, document), connected=True, duration_s=0.1)
    outcome = poll(ACME, answer, allow_http=True)
    assert isinstance(outcome, Seen)
    assert outcome.update.outputs == ("http://127.0.0.1:1/a.mp4",)


def test_an_unknown_word_says_nothing() -> None:
    outcome = polled({"status": "WEIRD"})
    assert isinstance(outcome, Seen)
    assert (outcome.update.status, outcome.update.provider_status) == (None, "WEIRD")


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_no_failed_poll_says_anything_about_the_job(adapter: Adapter) -> None:
    answers = [unanswered(connected=True), unanswered(connected=False)]
    answers += [answered(status) for status in range(300, 600) if status != 404]
    answers += [answered(200, body) for body in UNREADABLE]
    for answer in answers:
        assert isinstance(poll(adapter, answer, allow_http=False), Trouble), answer
    assert isinstance(poll(adapter, answered(404), allow_http=False), Missing)


def test_an_unreadable_poll_is_the_providers_breach() -> None:
    outcome = poll(ACME, answered(200, b"<html>"), allow_http=False)
    assert isinstance(outcome, Trouble)
    assert outcome.error.code is ErrorCode.PROVIDER_CONTRACT


def test_a_busy_poll_keeps_the_retry_after() -> None:
    outcome = poll(ACME, answered(429, retry_after="9"), allow_http=False)
    assert isinstance(outcome, Trouble)
    assert (outcome.error.code, outcome.retry_after) == (ErrorCode.RATE_LIMITED, "9")


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_a_cancel_is_done_missing_or_to_be_tried_again(adapter: Adapter) -> None:
    for status in (200, 202, 204):
        assert cancelling(adapter, answered(status)) == Done()
    assert cancelling(adapter, answered(404)) == Missing()
    for answer in (unanswered(connected=True), *(answered(status) for status in (302, 400, 409, 429, 500))):
        assert isinstance(cancelling(adapter, answer), Trouble)


@pytest.mark.parametrize("adapter", EVERY, ids=named)
def test_a_cancel_that_failed_may_have_been_carried_out_unless_it_was_refused_or_not_sent(
    adapter: Adapter,
) -> None:
    for answer in (unanswered(connected=True), *(answered(status) for status in (302, 408, 500, 503))):
        outcome = cancelling(adapter, answer)
        assert isinstance(outcome, Trouble)
        assert outcome.doubtful, answer
    for answer in (unanswered(connected=False), *(answered(status) for status in (400, 409, 429))):
        outcome = cancelling(adapter, answer)
        assert isinstance(outcome, Trouble)
        assert not outcome.doubtful, answer
    withheld = Reply(response=None, failure="the lease", connected=True, withheld=True, duration_s=0.1)
    assert cancelling(adapter, withheld) == Withheld("the lease")
