"""One try: what reaches the receiver, and what its answer makes of it."""

from __future__ import annotations

import time
from importlib.metadata import version

import pytest
from standardwebhooks import Webhook
from webhook_receivers import OK, answering, receiver, sender, status

from gateway.webhooks.outcome import Outcome
from gateway.webhooks.signing import decode_secret, sign

SECRET = "whsec_" + "QUJD" * 11
BODY = '{"type":"job.succeeded","data":{"title":"été"}}'.encode()


async def test_the_receiver_gets_the_signed_bytes_and_can_verify_them() -> None:
    headers = sign([decode_secret(SECRET)], message_id="msg_1", timestamp_s=int(time.time()), body=BODY)
    async with receiver(answering(OK)) as there, sender() as webhooks:
        sent = await webhooks.send(url=there.url("hooks.test"), headers=headers, body=BODY)
        received, body = there.last()
    assert (sent.outcome, sent.status, sent.detail) == (Outcome.DELIVERED, 200, "ok")
    assert 0 < sent.duration_s < 15
    assert there.requests[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert body == BODY
    assert received == {
        **headers,
        "host": f"hooks.test:{there.port}",
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "user-agent": f"motion-gateway/{version('motion-gateway')}",
        "accept-encoding": "identity",
        "connection": "close",
    }
    Webhook(SECRET).verify(body, received)


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("101 Switching Protocols", Outcome.HTTP_ERROR),
        ("200 OK", Outcome.DELIVERED),
        ("204 No Content", Outcome.DELIVERED),
        ("299 Fine", Outcome.DELIVERED),
        ("304 Not Modified", Outcome.REDIRECTED),
        ("400 Bad Request", Outcome.HTTP_ERROR),
        ("401 Unauthorized", Outcome.HTTP_ERROR),
        ("404 Not Found", Outcome.HTTP_ERROR),
        ("410 Gone", Outcome.GONE),
        ("429 Too Many Requests", Outcome.THROTTLED),
        ("500 Internal Server Error", Outcome.HTTP_ERROR),
        ("501 Not Implemented", Outcome.HTTP_ERROR),
        ("502 Bad Gateway", Outcome.THROTTLED),
        ("503 Service Unavailable", Outcome.THROTTLED),
        ("504 Gateway Timeout", Outcome.THROTTLED),
        ("999 Go Away", Outcome.HTTP_ERROR),
    ],
)
async def test_the_status_decides(line: str, outcome: Outcome) -> None:
    async with receiver(answering(status(line))) as there, sender() as webhooks:
        sent = await webhooks.send(url=there.url(), headers={}, body=BODY)
    assert (sent.outcome, sent.status) == (outcome, int(line[:3]))
    assert sent.retry_after is None


async def test_retry_after_is_handed_on_as_it_came() -> None:
    answer = status("503 Service Unavailable", "Retry-After: 1000000000")
    async with receiver(answering(answer)) as there, sender() as webhooks:
        sent = await webhooks.send(url=there.url(), headers={}, body=BODY)
    assert sent.retry_after == "1000000000"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", ""),
        (b"no such hook", "no such hook"),
        (b"a\0b\xff\xfec", "a\ufffdb\ufffd\ufffdc"),
        (b"x" * 1023 + "é".encode(), "x" * 1023),
        ("€".encode() * 3000, "€" * 341),
        (b'{"secret": "hunter2hunter2", "why": "no"}', '{"secret": "********", "why": "no"}'),
        (b" " * 1000 + b"whsec_" + b"QUJD" * 11, " " * 1000 + "********"),
    ],
)
async def test_a_kilobyte_of_the_answer_is_kept_readable_and_without_secrets(
    body: bytes, detail: str
) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with receiver(answering(answer)) as there, sender() as webhooks:
        sent = await webhooks.send(url=there.url(), headers={}, body=BODY)
    assert sent.detail == detail


async def test_every_try_has_a_connection_of_its_own() -> None:
    async with receiver(answering(OK)) as there, sender() as webhooks:
        for _ in range(3):
            sent = await webhooks.send(url=there.url(), headers={}, body=BODY)
            assert sent.outcome is Outcome.DELIVERED
        assert there.connections == 3
