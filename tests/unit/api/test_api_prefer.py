"""The header Prefer: which waits are wishes, and which texts are none."""

from __future__ import annotations

import time

import pytest

from gateway.api.prefer import LONGEST_S, wait_s


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([b"wait=10"], 10),
        ([b"respond-async, wait=10"], 10),
        ([b"respond-async", b"WAIT\t=\t5;x=y;;z, foo"], 5),
        ([b'wait="7"'], 7),
        ([b"wait=007"], 7),
        ([b"", b" , ,wait=8 "], 8),
        ([b'foo="a,wait=3,\\"", wait=4'], 4),
        ([b"wait=60"], 60),
        ([b"wait=61"], LONGEST_S),
        ([b"wait=" + b"9" * 30_000], LONGEST_S),
    ],
)
def test_a_wait_is_found_among_preferences(values: list[bytes], seconds: int) -> None:
    assert wait_s(values) == seconds


NO_WAITS = (
    *(b"", b"wait", b"wait=", b"wait=0", b"wait=00", b"wait=-1", b"wait=1.5", b"wait=1s", b'wait=""'),
    *(
        b'wait="7',
        b"waits=1",
        b"x=wait=1",
        b'foo="wait=1"',
        b"foo; wait=1",
        b"\xc2\xb2, wait=1",
        b"wait=\xb2",
    ),
)


@pytest.mark.parametrize("value", NO_WAITS)
def test_what_is_malformed_or_something_else_is_no_wait(value: bytes) -> None:
    assert wait_s([value]) is None


def test_of_several_waits_the_first_one_counts() -> None:
    assert wait_s([b"wait=3, wait=9"]) == 3
    assert wait_s([b"wait=3", b"wait=9"]) == 3
    assert wait_s([b"wait=x, wait=9"]) is None


@pytest.mark.parametrize("piece", [b"; ", b"a; ", b" ", b" ,", b"a=\t", b'a="\\"', b"\\", b'"'])
def test_no_header_takes_long_to_read(piece: bytes) -> None:
    def seconds(times: int) -> float:
        started = time.perf_counter()
        assert wait_s([b"a" + piece * times + b"@"]) is None
        return time.perf_counter() - started

    # What takes exponential time does not come back at all.
    assert seconds(4000) <= 1000 * max(seconds(400), 1e-4)
