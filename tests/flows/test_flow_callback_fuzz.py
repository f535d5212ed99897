"""Ten thousand callbacks that somebody tampered with: none dials, changes a job or is answered 500."""

from __future__ import annotations

import hmac
import json
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from msgspec.structs import replace
from recording_dialer import RecordingDialer
from running_gateway import ADAPTERS, REGISTRY, Document, JumpClock, RunningGateway, StartGateway, fault
from sqlalchemy import Connection, select

from gateway.registry import Registry
from gateway.storage import tables
from providers.contract.proof import signed_text
from providers.contract.reading import MAX_BYTES
from providers.contract.spec import Ed25519Proof, HmacProof, Proof, SecretProof, Signing

PROVIDER = "eachlabs"
SIGNING = Signing(
    signature_header="x-sig",
    prefix="v1=",
    timestamp_header="x-time",
    headers=("x-id", "x-time"),
    separator=".",
)
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
PROOFS: dict[str, tuple[Proof | None, int]] = {
    "secret": (SecretProof(header="x-webhook-secret"), 7000),
    "hmac": (HmacProof(signing=SIGNING), 1200),
    "ed25519": (
        Ed25519Proof(signing=SIGNING, public_keys=(PRIVATE.public_key().public_bytes_raw().hex(),)),
        1200,
    ),
    "none": (None, 600),
}
"""How a callback proves itself, and how many of them are tampered with."""
NOT_OURS = (tables.tasks, tables.callback_inbox)
"""What hints may touch: when a question is due, and what is kept of them."""

Lines = list[tuple[bytes, bytes]]


class Call(Struct, kw_only=True):
    """One request, to be spoilt."""

    provider: str
    token: str
    headers: Lines
    body: bytes
    pieces: int = 1
    gone: bool = False
    """Whether the caller hangs up before the end of the body."""


def signed(proof: Proof | None, secret: str, now_s: int, body: bytes) -> Lines:
    """The headers of an honest provider."""
    if proof is None:
        return []
    if isinstance(proof, SecretProof):
        return [(proof.header.encode(), secret.encode())]
    headers = [("x-id", "m1"), ("x-time", str(now_s))]
    text = signed_text(proof.signing, headers, body)
    if isinstance(proof, HmacProof):
        signature = hmac.digest(secret.encode(), text, proof.algorithm)
    else:
        signature = PRIVATE.sign(text)
    return [(name.encode(), value.encode()) for name, value in [*headers, ("x-sig", f"v1={signature.hex()}")]]


# --- how calls are spoilt ---


def noise(chance: Random, most: int) -> bytes:
    return chance.randbytes(chance.randrange(most))


def bent(chance: Random, data: bytes) -> bytes:
    """Some bytes changed, left out, doubled or cut off."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(spoilt) + 1)
        match chance.randrange(5):
            case 0:
                spoilt[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del spoilt[place : place + chance.randint(1, 8)]
            case 2:
                spoilt[place:place] = spoilt[place : place + 20]
            case 3:
                del spoilt[place:]
            case _:
                spoilt[place:place] = noise(chance, 12)
    return bytes(spoilt)


def bend_header(chance: Random, call: Call) -> None:
    if call.headers:
        place = chance.randrange(len(call.headers))
        name, value = call.headers[place]
        call.headers[place] = (name, bent(chance, value))


def drop_header(chance: Random, call: Call) -> None:
    if call.headers:
        del call.headers[chance.randrange(len(call.headers))]


def double_header(chance: Random, call: Call) -> None:
    if call.headers:
        name, value = chance.choice(call.headers)
        call.headers.insert(
            chance.randrange(len(call.headers) + 1), (name, chance.choice([value, b"", b"x"]))
        )


def add_header(chance: Random, call: Call) -> None:
    name = chance.choice(
        [b"content-type", b"content-encoding", b"content-length", b"authorization", b"x-request-id", b"host",
         b"expect", b"x-forwarded-for", b"cookie", b"x-webhook-secret", b"x-sig", b"x-time"]
    )  # fmt: skip
    value = chance.choice(
        [b"", b"gzip", b"-1", b"99999999999999999999", b"0", b"1048577", b"text/xml; charset=utf-7",
         b"\xff\xfe", b"x" * 20_000, noise(chance, 40)]
    )  # fmt: skip
    call.headers.append((name, value))


def bend_token(chance: Random, call: Call) -> None:
    call.token = chance.choice(
        [
            bent(chance, call.token.encode()).decode("latin-1"),
            call.token.partition(".")[0],
            call.token.upper(),
            call.token + ".",
            "att_" + "0" * 32 + "." + call.token.partition(".")[2],
            "..",
            "x" * 3000,
            "é",
        ]
    )


def bend_provider(chance: Random, call: Call) -> None:
    call.provider = chance.choice(["runway", "aimlapi", "nobody", "EACHLABS", "", "%00", "a/b", "é" * 40])


def bend_body(chance: Random, call: Call) -> None:
    call.body = bent(chance, call.body)


def other_body(chance: Random, call: Call) -> None:
    call.body = chance.choice(
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b'"x"',
            b"[" * 50_000,
            b'{"exec_id":' * 200,
            b'{"exec_id":"a","exec_id":"b"}',
            b'{"exec_id":"../../x"}',
            b'{"exec_id":"a b"}',
            b'{"exec_id":"\\u0000"}',
            b'{"exec_id":"\\ud800"}',
            b'{"exec_id":NaN}',
            b'{"exec_id":1e999}',
            b'{"exec_id":' + b"9" * 5000 + b"}",
            b'{"exec_id":"' + b"x" * 600 + b'"}',
            b"\xff\xfe{}",
            b"\xef\xbb\xbf" + call.body,
            b"\x1f\x8b\x08" + call.body,
            noise(chance, 300),
        ]
    )


def other_run(chance: Random, call: Call) -> None:
    call.body = json.dumps({"exec_id": f"r-{chance.randrange(10**9)}", "status": "succeeded"}).encode()


def say_more(chance: Random, call: Call) -> None:
    """The same run, said otherwise: where nothing signs the body, this is as good as the first."""
    call.body = call.body[:-1] + f', "n{chance.randrange(10**9)}": {chance.randrange(9)}}}'.encode()


def too_much(chance: Random, call: Call) -> None:
    if chance.random() < 0.05:
        call.body = call.body[:-1] + b" " * MAX_BYTES + b"}"


def in_pieces(chance: Random, call: Call) -> None:
    call.pieces = chance.randint(2, 6)


def hang_up(_chance: Random, call: Call) -> None:
    call.gone = True


SPOILERS: tuple[Callable[[Random, Call], None], ...] = (
    bend_header, drop_header, double_header, add_header, bend_token, bend_provider, bend_body, other_body,
    other_run, say_more, too_much, in_pieces, hang_up,
)  # fmt: skip


def spoilt(chance: Random, good: Call) -> Call:
    """A copy with one to three things wrong."""
    call = replace(good, headers=list(good.headers))
    for _ in range(chance.choice([1, 1, 2, 3])):
        chance.choice(SPOILERS)(chance, call)
    return call


# --- how they are made, and what is looked at ---


async def make(app: Any, call: Call, source: str) -> tuple[int, bytes]:
    """Carry a call out in this process; status and body of its answer."""
    path = f"/v1/callbacks/{call.provider}/{call.token}"
    size = len(call.body) // call.pieces + 1
    pieces = [call.body[start : start + size] for start in range(0, len(call.body), size)] or [b""]
    messages: Iterator[Document] = iter(
        [
            {"type": "http.request", "body": piece, "more_body": call.gone or number < len(pieces)}
            for number, piece in enumerate(pieces, 1)
        ]
    )
    answered: list[Document] = []

    async def receive() -> Document:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Document) -> None:
        answered.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": call.headers,
        "client": (source, 40_000), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in answered[1:])
    return answered[0]["status"], body


async def state_of(running: RunningGateway) -> dict[str, list[Any]]:
    """Every row of every table that a hint must not touch; of tasks, which there are."""

    def operation(connection: Connection) -> dict[str, list[Any]]:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).all()))
            for table in tables.metadata.sorted_tables
            if table not in NOT_OURS
        }

    return await running.gateway.parts.store.database.read(operation)


async def provoked(running: RunningGateway, proof: Proof | None) -> list[Call]:
    """An honest call for a job that runs, for one that is held, and for one that has ended."""
    running.break_(fault("accept_reset", provider=PROVIDER, times=1), fault("no_rows", "list"))
    held = await running.held(await running.accept(PROVIDER))
    running.break_()
    runs = await running.until(
        await running.accept(PROVIDER), lambda job: job["attempts"] and job["attempts"][0]["provider_ref"]
    )
    ended = await running.accept(PROVIDER)
    await running.until(ended, lambda job: job["attempts"] and job["attempts"][0]["provider_ref"])
    await running.client.post(f"/v1/jobs/{ended}/cancel")
    jobs = [held, runs, await running.ended(ended)]
    keys, clock = running.gateway.parts.callbacks._keys, running.gateway.parts.store.clock
    calls = []
    for job in jobs:
        (attempt,) = job["attempts"]
        callback = keys.callback_of(REGISTRY.adapters[PROVIDER], attempt["id"])
        assert callback is not None
        body = json.dumps({"exec_id": attempt["provider_ref"] or "r-1", "status": "succeeded"}).encode()
        headers = signed(proof, callback.secret, clock.now_ms() // 1000, body)
        token = callback.url.rpartition("/")[2]
        calls.append(Call(provider=PROVIDER, token=token, headers=headers, body=body))
    return calls


@pytest.mark.parametrize("kind", PROOFS)
async def test_calls_that_were_tampered_with_do_nothing(start_gateway: StartGateway, kind: str) -> None:
    proof, times = PROOFS[kind]
    adapter = ADAPTERS[PROVIDER]
    assert adapter.spec.callback is not None
    spec = replace(adapter.spec, callback=replace(adapter.spec.callback, proof=proof))
    others = [one for name, one in ADAPTERS.items() if name != PROVIDER]
    clock = JumpClock()
    running = await start_gateway(
        public=True,
        registry=Registry([*others, replace(adapter, spec=spec)]),
        simulator={"clock": clock, "run_s": 1000.0, "callbacks": False},
        clock=clock,
    )
    calls = await provoked(running, proof)
    await running.gateway.stop_worker()
    dialer = RecordingDialer()
    await dialer.watch_providers(running)
    before = await state_of(running)
    chance = Random(20261121)  # noqa: S311 - the same calls in every run
    statuses: Counter[int] = Counter()
    refusals: set[tuple[str, str]] = set()
    for number in range(times):
        call = spoilt(chance, chance.choice(calls))
        status, body = await make(running.gateway.asgi, call, f"192.0.2.{number % 200}")
        assert status < 500, call
        statuses[status] += 1
        if status == 401:
            document = json.loads(body)
            refusals.add((document["type"], document["detail"]))
    assert await state_of(running) == before
    assert dialer.dialled == []
    assert len(refusals) == 1, "whatever is wrong, the caller is told the same"
    for status in (200, 400, 401, 404, 499):  # they got as far as each of these
        assert statuses[status] > times / 200, statuses
    assert statuses.total() == times
    await running.gateway.start_worker()  # and what hints alone made due is only asked about
    await running.when(lambda: dialled(dialer))
    listed = (await running.client.get("/v1/jobs")).json()["jobs"]
    assert not {job["status"] for job in listed} & {"succeeded", "failed"}, "what they said is not believed"


async def dialled(dialer: RecordingDialer) -> bool:
    return bool(dialer.dialled)
