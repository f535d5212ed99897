"""Callbacks over a real store: what each makes due, and that nothing of them is believed."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from job_examples import NOW_MS, SOURCE, a_spec, an_adapter
from msgspec.structs import replace
from sqlalchemy import Connection
from store_stage import Stage, StoppedClock
from worker_bench import MADE, RUNNING, SUCCEEDED, Bench

from gateway.errors import Refusal
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.registry import Registry
from gateway.service.callbacks import MOST_KEPT, CallbackKeys, Callbacks
from gateway.service.inflow import MOST_SOURCES, RATE, Inflow
from gateway.service.wakeup import Wakeup
from gateway.settings.rates import Rate
from gateway.storage import callbacks as callback_rows
from gateway.storage import tables
from gateway.storage import tasks as task_rows
from gateway.telemetry import redact
from providers.contract.adapter import Adapter
from providers.contract.proof import Headers
from providers.contract.reading import decode_object, ref_at
from providers.contract.spec import CallbackSpec, HmacProof, Proof, SecretProof, Signing

PATIENCE_S = 10.0
SECRET_HEADER = "x-secret"
URL = "https://gateway.example"
SIGNING = Signing(
    signature_header="x-sig", timestamp_header="x-time", headers=("x-id", "x-time"), separator="."
)


def acme(proof: Proof | None) -> Adapter:
    """The made-up provider, with this proof in its callbacks."""
    spec = a_spec(callback=CallbackSpec(proof=proof, source=SOURCE))
    parse = lambda _headers, body: ref_at(decode_object(body), "ref")  # noqa: E731 - as short as it is
    return replace(an_adapter(spec), parse_callback=parse)


ACME = acme(SecretProof(header=SECRET_HEADER))


class Post:
    """The callbacks of one store, and the provider that sends them."""

    def __init__(self, stage: Stage, adapter: Adapter = ACME) -> None:
        self.stage = stage
        self.keys = CallbackKeys(URL, "the store's secret")
        self.wakeup = Wakeup()
        self.counted: list[tuple[str, str]] = []
        registry = cast("Registry", SimpleNamespace(adapters={"acme": adapter}))
        self.callbacks = Callbacks(
            stage.database,
            stage.clock,
            registry,
            self.keys,
            self.wakeup,
            redact=redact,
            on_call=lambda provider, outcome: self.counted.append((provider, outcome)),
        )

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome in self.counted]

    async def send(self, attempt_id: str, ref: str = "r-1", **more: Any) -> None:
        headers = [(SECRET_HEADER, self.keys.secret_of(attempt_id))]
        await self.deliver(attempt_id, headers, msgspec.json.encode({"ref": ref, **more}))

    async def deliver(
        self, attempt_id: str, headers: Headers, body: bytes, source: str = "192.0.2.7"
    ) -> None:
        callback = self.keys.callback_of(ACME, attempt_id)
        assert callback is not None
        token = callback.url.rpartition("/")[2]
        admitted = self.callbacks.admit("acme", token, headers, source=source)
        assert admitted == attempt_id
        await self.callbacks.take("acme", admitted, headers, body)


@pytest.fixture
def post(stage: Stage) -> Post:
    return Post(stage)


async def test_an_accepted_attempt_is_polled_now(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    (attempt,) = await stage.attempts(job_id)
    stage.clock.advance(1)
    woken = post.wakeup.subscribe()
    before = await stage.job(job_id)
    await post.send(attempt.id)
    assert await stage.tasks() == [("poll", 1000)]
    assert woken.is_set()
    assert await stage.job(job_id) == before
    stage.clock.advance(1)
    await post.send(attempt.id)
    assert await stage.tasks() == [("poll", 1000)], "the same once more is nothing new"
    assert post.outcomes == ["poll", "known"]


async def test_many_make_one_poll_every_two_seconds(stage: Stage, post: Post) -> None:
    """Each one different, ten a second for six seconds; a poll takes no time, and finds nothing new."""
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    polled_ms = []
    for number in range(60):
        await post.send(attempt.id, number=number)
        ((_, due_ms),) = await stage.tasks()
        if due_ms <= stage.clock.ms - NOW_MS:
            polled_ms.append(due_ms)
            await bench.work(RUNNING)
        stage.clock.advance(0.1)
    assert polled_ms == [0, 2000, 4000]
    assert Counter(post.outcomes) == {"poll": 6, "coalesced": 54}


async def test_one_that_comes_late_in_a_wait_does_not_lengthen_it(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    await post.send(attempt.id, number=1)
    await bench.work(RUNNING)
    stage.clock.advance(0.5)
    await stage.database.write(
        lambda connection: task_rows.bring_forward(
            connection, TaskKind.POLL, attempt.job_id, at_ms=stage.clock.ms + 100
        )
    )
    await post.send(attempt.id, number=2)
    assert await stage.tasks() == [("poll", 600)], "it was due before the two seconds are over"


async def test_one_that_comes_while_a_poll_is_under_way_makes_another(stage: Stage, post: Post) -> None:
    """That poll may have been answered before the run ended."""
    bench = Bench(stage)
    job_id = await bench.accepted()
    (attempt,) = await stage.attempts(job_id)
    stage.clock.advance(5)

    async def call_back() -> None:
        stage.clock.advance(0.01)
        await post.send(attempt.id)

    bench.provider.meanwhile = call_back
    await bench.work(RUNNING)
    bench.provider.meanwhile = None
    assert await stage.tasks() == [("poll", 5010)]
    await bench.work(SUCCEEDED)
    assert await stage.tasks() == []


async def test_another_ref_than_the_accepted_one_is_stored_and_ignored(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    (attempt,) = await stage.attempts(job_id)
    stage.clock.advance(1)
    await post.send(attempt.id, "r-2")
    assert await stage.tasks() == [("poll", 5000)]
    assert await stage.attempts(job_id) == (attempt,)


@pytest.mark.parametrize(("ref", "due_ms"), [("r-1", 0), ("r-2", 5000)])
async def test_one_that_comes_before_our_own_answer_is_heeded_with_it(
    stage: Stage, post: Post, ref: str, due_ms: int
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    sent: list[str] = []

    async def call_back() -> None:
        (attempt,) = await stage.attempts(job_id)
        assert attempt.state is AttemptState.SUBMITTING
        sent.append(attempt.id)
        await post.send(attempt.id, ref)

    bench.provider.meanwhile = call_back
    await bench.work(MADE)
    assert await stage.tasks() == [("poll", due_ms)]
    assert post.outcomes == ["stored"]
    (row,) = await stage.rows(tables.callback_inbox)
    assert (row["attempt_id"], row["ref"]) == (sent[0], ref)


async def test_one_that_comes_while_our_own_answer_is_written_waits_for_it(
    stage: Stage, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, looked, go_on = await stage.accept(), threading.Event(), threading.Event()
    names = callback_rows.names

    def names_and_waits(connection: Connection, attempt_id: str, ref: str) -> bool:
        found = names(connection, attempt_id, ref)
        looked.set()
        assert go_on.wait(PATIENCE_S)
        return found

    monkeypatch.setattr(callback_rows, "names", names_and_waits)
    working = asyncio.create_task(Bench(stage).work(MADE))
    assert await asyncio.to_thread(looked.wait, PATIENCE_S)
    (attempt,) = await stage.attempts(job_id)
    assert attempt.state is AttemptState.SUBMITTING
    calling = asyncio.create_task(post.send(attempt.id))
    while not (calling.done() or await stage.database.read(somebody_waits)):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.01)
    go_on.set()
    await asyncio.gather(working, calling)
    assert await stage.tasks() == [("poll", 0)]
    assert post.outcomes == ["poll"]


def somebody_waits(connection: Connection) -> bool:
    """Whether a transaction waits for another's lock; SQLite's one writer does one after the other anyway."""
    if connection.dialect.name == "sqlite":
        return True
    asked = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(connection.exec_driver_sql(asked).scalar_one())


async def test_the_same_at_once_is_stored_once(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    await asyncio.gather(*(post.send(attempt.id) for _ in range(8)))
    assert len(await stage.rows(tables.callback_inbox)) == 1


async def test_what_is_kept_is_bounded_and_holds_no_secret(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    secret = post.keys.secret_of(attempt.id)
    film = f"https://cdn.example/film.mp4?Signature={secret}"
    await post.send(attempt.id, film=film, echo=f"<{secret}>", nul="a\0b", long="x" * 100_000)
    (row,) = await stage.rows(tables.callback_inbox)
    kept = str(row["body"])
    assert "https://cdn.example/film.mp4" in kept
    assert secret not in kept
    assert len(kept) < 5000
    for number in range(MOST_KEPT + 5):
        await post.send(attempt.id, number=number)
    assert len(await stage.rows(tables.callback_inbox)) == MOST_KEPT
    assert post.outcomes[-6:] == ["full"] * 6


async def test_a_signed_one_is_taken_and_any_other_is_not(stage: Stage) -> None:
    post = Post(stage, acme(HmacProof(signing=SIGNING)))
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    other = "att_" + "2" * 32
    now_s = stage.clock.ms // 1000

    def signed(secret: str, at_s: int, body: bytes) -> Headers:
        mac = hmac.digest(secret.encode(), f"m1.{at_s}.".encode() + body, "sha256").hex()
        return [("x-id", "m1"), ("x-time", str(at_s)), ("x-sig", mac)]

    body, ours = b'{"ref":"r-1"}', post.keys.secret_of(attempt.id)
    wrong = {
        "forged": signed(post.keys.secret_of(other), now_s, body),
        "stale": signed(ours, now_s - 301, body),
        "missing": signed(ours, now_s, body)[:2],
        "repeated": [*signed(ours, now_s, body), ("x-sig", "00")],
    }
    for flaw, headers in wrong.items():
        with pytest.raises(Refusal) as refused:
            await post.deliver(attempt.id, headers, body)
        assert (refused.value.slug, post.outcomes[-1]) == ("invalid-signature", flaw)
    with pytest.raises(Refusal, match="does not prove"):
        await post.deliver(attempt.id, signed(ours, now_s, body), body + b" ")
    assert await stage.rows(tables.callback_inbox) == []
    await post.deliver(attempt.id, signed(ours, now_s, body), body)
    await post.deliver(attempt.id, signed(ours, now_s + 60, body), body)
    assert post.outcomes[-2:] == ["poll", "known"], "sent again, it is signed anew"


async def test_a_flood_from_one_place_is_turned_away_and_others_are_not(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    good = [(SECRET_HEADER, post.keys.secret_of(attempt.id))]
    for _ in range(3 * RATE.count):
        with pytest.raises(Refusal, match="does not prove"):
            await post.deliver(attempt.id, [(SECRET_HEADER, "x")], b"")
    for _ in range(RATE.count):
        post.callbacks.admit("acme", token_of(post, attempt.id), good, source="192.0.2.7")
    with pytest.raises(Refusal) as refused:
        await post.deliver(attempt.id, good, b'{"ref":"r-1"}')
    assert (refused.value.slug, refused.value.headers) == ("quota-exceeded", {"Retry-After": "1"})
    assert post.outcomes[-1] == "throttled"
    assert await stage.rows(tables.callback_inbox) == []
    await post.deliver(attempt.id, good, b'{"ref":"r-1"}', source="192.0.2.8")
    stage.clock.advance(RATE.interval_s / RATE.count)
    await post.deliver(attempt.id, good, b'{"ref":"r-1"}')
    assert post.outcomes[-2:] == ["poll", "known"]


def test_places_are_not_remembered_without_end() -> None:
    clock = StoppedClock()
    inflow = Inflow(clock, Rate(1, 60))
    for number in range(MOST_SOURCES + 1):
        inflow.take("acme", str(number))
    inflow.take("acme", "0")
    with pytest.raises(Refusal):
        inflow.take("acme", str(MOST_SOURCES))


def token_of(post: Post, attempt_id: str) -> str:
    callback = post.keys.callback_of(ACME, attempt_id)
    assert callback is not None
    return callback.url.rpartition("/")[2]


async def test_one_for_an_attempt_we_never_made_is_not_from_the_provider(stage: Stage, post: Post) -> None:
    with pytest.raises(Refusal) as refused:
        await post.send("att_" + "0" * 32)
    assert refused.value.slug == "invalid-signature"
    assert await stage.rows(tables.callback_inbox) == []


async def test_a_body_that_names_no_run_is_refused(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    for ref in ("", "../x", "a b"):
        with pytest.raises(Refusal) as refused:
            await post.send(attempt.id, ref)
        assert refused.value.slug == "malformed-body"
    assert await stage.rows(tables.callback_inbox) == []


def test_tokens_are_of_one_attempt_and_one_store() -> None:
    attempt_id, other = "att_" + "1" * 32, "att_" + "2" * 32
    ours, theirs = CallbackKeys(URL, "ours"), CallbackKeys(URL, "theirs")
    made, stranger = ours.callback_of(ACME, attempt_id), theirs.callback_of(ACME, attempt_id)
    assert made is not None
    assert stranger is not None
    token = made.url.removeprefix(f"{URL}/v1/callbacks/acme/")
    assert ours.attempt_of(token) == attempt_id
    assert ours.attempt_of(token.replace("1", "2")) is None
    assert theirs.attempt_of(token) is None
    assert made.secret == ours.secret_of(attempt_id)
    assert made.secret not in {ours.secret_of(other), stranger.secret, token.partition(".")[2]}
    assert len(made.secret) >= 22


def test_where_nobody_can_call_no_callback_is_wanted() -> None:
    attempt_id = "att_" + "1" * 32
    assert CallbackKeys(None, "s").callback_of(ACME, attempt_id) is None
    assert CallbackKeys(URL, "s").callback_of(an_adapter(), attempt_id) is None
    assert CallbackKeys(URL, "s").callback_of(replace(ACME, parse_callback=None), attempt_id) is None
    made = CallbackKeys(URL, "s").callback_of(ACME, attempt_id)
    assert made is not None
    assert CallbackKeys(None, "s").attempt_of(made.url.rpartition("/")[2]) is None
