"""Callbacks over a real store: what each makes due, and that nothing of them is believed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from job_examples import SOURCE, a_spec, an_adapter
from msgspec.structs import replace
from store_stage import Stage
from worker_bench import MADE, Bench

from gateway.errors import Refusal
from gateway.jobs.job import AttemptState
from gateway.registry import Registry
from gateway.service.callbacks import CallbackKeys, Callbacks
from gateway.service.wakeup import Wakeup
from gateway.storage import tables
from providers.contract.reading import decode_object, ref_at
from providers.contract.spec import CallbackSpec

SECRET_HEADER = "x-secret"
URL = "https://gateway.example"
ACME = replace(
    an_adapter(a_spec(callback=CallbackSpec(secret_header=SECRET_HEADER, source=SOURCE))),
    parse_callback=lambda _headers, body: ref_at(decode_object(body), "ref"),
)


class Post:
    """The callbacks of one store, and the provider that sends them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.keys = CallbackKeys(URL, "the store's secret")
        self.wakeup = Wakeup()
        registry = cast("Registry", SimpleNamespace(adapters={"acme": ACME}))
        self.callbacks = Callbacks(stage.database, stage.clock, registry, self.keys, self.wakeup)

    async def send(self, attempt_id: str, ref: str = "r-1", **more: Any) -> None:
        callback = self.keys.callback_of(ACME, attempt_id)
        assert callback is not None
        token, headers = callback.url.rpartition("/")[2], {SECRET_HEADER: callback.secret}
        admitted = self.callbacks.admit("acme", token, headers)
        assert admitted == attempt_id
        await self.callbacks.take("acme", admitted, headers, msgspec.json.encode({"ref": ref, **more}))


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
    await post.send(attempt.id, status="succeeded")
    assert await stage.tasks() == [("poll", 2000)]


async def test_another_ref_than_the_accepted_one_is_stored_and_ignored(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    (attempt,) = await stage.attempts(job_id)
    stage.clock.advance(1)
    await post.send(attempt.id, "r-2")
    assert await stage.tasks() == [("poll", 5000)]
    assert await stage.attempts(job_id) == (attempt,)


async def test_one_that_comes_before_our_own_answer_waits_for_it(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    sent: list[str] = []

    async def call_back() -> None:
        (attempt,) = await stage.attempts(job_id)
        assert attempt.state is AttemptState.SUBMITTING
        sent.append(attempt.id)
        await post.send(attempt.id)

    bench.provider.meanwhile = call_back
    await bench.work(MADE)
    assert await stage.tasks() == [("poll", 5000)]
    (row,) = await stage.rows(tables.callback_inbox)
    assert (row["attempt_id"], row["ref"]) == (sent[0], "r-1")


async def test_the_same_at_once_is_stored_once(stage: Stage, post: Post) -> None:
    bench = Bench(stage)
    (attempt,) = await stage.attempts(await bench.accepted())
    await asyncio.gather(*(post.send(attempt.id) for _ in range(8)))
    assert len(await stage.rows(tables.callback_inbox)) == 1


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
    assert ours.knows(attempt_id, made.secret)
    assert not ours.knows(other, made.secret)
    assert not ours.knows(attempt_id, stranger.secret)
    assert not ours.knows(attempt_id, token.partition(".")[2])
    assert len(made.secret) >= 22
    assert not CallbackKeys(URL, "ours").knows(attempt_id, "\udcff")


def test_where_nobody_can_call_no_callback_is_wanted() -> None:
    attempt_id = "att_" + "1" * 32
    assert CallbackKeys(None, "s").callback_of(ACME, attempt_id) is None
    assert CallbackKeys(URL, "s").callback_of(an_adapter(), attempt_id) is None
    assert CallbackKeys(URL, "s").callback_of(replace(ACME, parse_callback=None), attempt_id) is None
    made = CallbackKeys(URL, "s").callback_of(ACME, attempt_id)
    assert made is not None
    assert CallbackKeys(None, "s").attempt_of(made.url.rpartition("/")[2]) is None
