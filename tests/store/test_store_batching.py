"""Concurrent calls become one operation, each with its own answer."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import StorageUnavailable
from gateway.storage.batching import Batched


class Doubler:
    """Doubles numbers, and keeps which came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.started.set()
        await self.go_on.wait()
        if 13 in items:
            raise ZeroDivisionError
        return [2 * item for item in items]


async def test_calls_at_once_are_one_batch_in_their_order() -> None:
    double = Doubler()
    call = Batched(double)
    assert await asyncio.gather(*(call(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert double.batches == [[0, 1, 2, 3, 4]]


async def test_calls_during_a_batch_form_the_next_up_to_the_limit() -> None:
    double = Doubler()
    call = Batched(double, limit=2)
    double.go_on.clear()
    first = asyncio.ensure_future(call(1))
    await double.started.wait()
    rest = [asyncio.ensure_future(call(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    double.go_on.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
    assert double.batches == [[1], [2, 3], [4]]


async def test_a_failure_reaches_its_batch_and_nobody_else() -> None:
    double = Doubler()
    call = Batched(double, limit=2)
    answers = await asyncio.gather(*(call(number) for number in (1, 13, 2, 3)), return_exceptions=True)
    assert [type(one) for one in answers] == [ZeroDivisionError, ZeroDivisionError, int, int]
    assert await call(5) == 10


async def test_a_caller_that_goes_away_disturbs_nobody() -> None:
    double = Doubler()
    call = Batched(double)
    double.go_on.clear()
    gone, stays = (asyncio.ensure_future(call(number)) for number in (1, 2))
    await double.started.wait()
    gone.cancel()
    double.go_on.set()
    assert await stays == 4
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await call(3) == 6


async def test_who_waits_too_long_for_a_batch_is_turned_away_and_never_begun() -> None:
    double = Doubler()
    call = Batched(double, patience_s=0.02)
    double.go_on.clear()
    first = asyncio.ensure_future(call(1))
    await double.started.wait()
    late = await asyncio.gather(call(2), call(3), return_exceptions=True)
    assert [type(one) for one in late] == [StorageUnavailable] * 2
    assert not first.done(), "it has begun: only its batch knows how it ends"
    double.go_on.set()
    assert await first == 2
    assert await call(5) == 10
    assert double.batches == [[1], [5]]
