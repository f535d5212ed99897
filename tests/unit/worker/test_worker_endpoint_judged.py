"""What tries say of their endpoint: when it is disabled, and what is no reason to."""

from __future__ import annotations

import httpx
import pytest
from job_examples import NOW_MS
from store_stage import Stage
from told_endpoint import DAY_S, OK, Told
from worker_bench import SCHEDULE_S, Answer, NobodyThere, Reply

from gateway.telemetry.labels import DISABLED
from gateway.webhooks.endurance import ENDURED_MS
from gateway.webhooks.retry import BUSY_S


@pytest.fixture
async def told(stage: Stage) -> Told:
    return await Told(stage).made()


async def test_one_that_is_gone_is_disabled_and_nothing_more_is_sent_to_it(
    told: Told,
) -> None:
    for _ in range(3):
        await told.ends()
    (task, *_) = await told.bench.deliver.claim(1)
    told.bench.receiver.says(Reply(410))
    await told.bench.deliver.carry_out(task)
    stands = await told.stands()
    assert (stands.state, stands.disabled_reason, stands.disabled_at_ms) == ("disabled", "gone", NOW_MS)
    assert await told.tries() == []
    assert await told.states() == ["given_up"] * 3
    assert told.bench.counted('webhook_endpoints_disabled_total{reason="gone"}') == 1


async def test_five_days_without_a_success_disable_it(told: Told) -> None:
    hours = 24
    for hour in range(0, ENDURED_MS // 3_600_000 + 1, hours):
        await told.ends()
        assert (await told.stands()).enabled, f"after {hour} hours"
        await told.tries(*[Reply(500)] * len(await told.stage.tasks()))
        told.stage.clock.advance(hours * 3600)
    stands = await told.stands()
    assert (stands.disabled_reason, stands.failing_since_ms) == ("failing", NOW_MS)
    assert told.bench.counted('webhook_endpoints_disabled_total{reason="failing"}') == 1
    await told.stage.endpoints.enable(told.id, owner="alice")
    assert (await told.stands()).failing_since_ms is None
    await told.ends()
    await told.tries(*[Reply(500)] * len(await told.stage.tasks()))
    assert (await told.stands()).enabled, "it has five days again"


async def test_a_try_at_the_old_url_says_nothing_of_the_one_it_moved_to(told: Told) -> None:
    await told.ends()
    await told.tries(NobodyThere())
    told.stage.clock.advance(5)

    async def moved() -> None:
        await told.stage.endpoints.change(told.id, owner="alice", url="https://moved.example/hook")

    told.bench.receiver.meanwhile = moved
    await told.tries(Reply(410))
    told.bench.receiver.meanwhile = None
    stands = await told.stands()
    assert (stands.enabled, stands.failing_since_ms, stands.failures) == (True, None, 0)
    assert await told.states() == ["pending"], "where it is now nobody said that it is gone"
    told.stage.clock.advance(SCHEDULE_S[2])
    (request,) = await told.tries(OK)
    assert str(request.url) == "https://moved.example/hook"


@pytest.mark.parametrize("answer", [Reply(410), Reply(500), NobodyThere()])
async def test_the_last_try_at_the_old_url_gives_nothing_up_of_the_one_it_moved_to(
    told: Told, answer: Answer
) -> None:
    await told.ends()
    for wait_s in SCHEDULE_S[1:]:
        await told.tries(Reply(500))
        told.stage.clock.advance(wait_s)
    send = told.bench.receiver.handle_async_request

    async def moved(request: httpx.Request) -> httpx.Response:
        await told.stage.endpoints.change(told.id, owner="alice", url="https://moved.example/hook")
        return await send(request)

    told.bench.receiver.handle_async_request = moved  # type: ignore[method-assign]
    await told.tries(answer)
    told.bench.receiver.handle_async_request = send  # type: ignore[method-assign]
    assert await told.states() == ["pending"]
    told.stage.clock.advance(BUSY_S)
    (request,) = await told.tries(Reply(500))
    assert str(request.url) == "https://moved.example/hook"
    shown = await told.delivery()
    assert shown.state == "given_up", "there it failed as well, at the schedule's end"
    assert [one.number for one in shown.attempts] == list(range(1, len(SCHEDULE_S) + 2))


async def test_a_try_sent_before_it_was_enabled_does_not_disable_it_again(told: Told) -> None:
    await told.ends()

    async def enabled() -> None:
        await told.stage.endpoints.disable(told.id, owner="alice")
        await told.stage.endpoints.enable(told.id, owner="alice")

    told.bench.receiver.meanwhile = enabled
    await told.tries(Reply(410))
    assert (await told.stands()).enabled


async def test_two_failures_with_idle_days_between_do_not_disable_it(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    told.stage.clock.advance(6 * DAY_S)
    await told.tries(Reply(500))
    stands = await told.stands()
    assert (stands.enabled, stands.failing_since_ms, stands.failures) == (True, NOW_MS, 2)
    told.stage.clock.advance(DAY_S)
    await told.tries(Reply(500))
    assert (await told.stands()).disabled_reason == "failing"


@pytest.mark.parametrize("sole", [True, False])
async def test_a_clock_set_forward_by_days_disables_nothing_that_failed_for_seconds(
    told: Told, *, sole: bool
) -> None:
    stage = told.stage
    await told.ends()
    await told.tries(Reply(500))
    stage.clock.advance(5)
    await told.tries(Reply(500))
    stage.clock.advance(6 * DAY_S)
    if sole:  # it moves what waits along
        await stage.leases.shift_due(6 * DAY_S * 1000, at_ms=stage.clock.now_ms())
    for _ in range(4):
        await told.ends()
        stage.clock.advance(SCHEDULE_S[2])
        await told.tries(*[Reply(500)] * len(await stage.tasks()))
        stands = await told.stands()
        assert (stands.enabled, stands.failing_since_ms, stands.failures) == (True, NOW_MS, 2)


async def test_one_success_begins_the_five_days_anew(told: Told) -> None:
    await told.ends()
    await told.tries(Reply(500))
    assert (await told.stands()).failing_since_ms == NOW_MS
    told.stage.clock.advance(5)
    await told.tries(OK)
    assert (await told.stands()).failing_since_ms is None
    told.stage.clock.advance(6 * DAY_S)
    await told.ends()
    await told.tries(Reply(500))
    assert (await told.stands()).enabled


def test_the_reasons_have_labels() -> None:
    assert set(DISABLED) == {"gone", "failing", "requested"}
