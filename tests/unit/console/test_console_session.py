"""What a browser bears: read back as it was signed, and in no other way."""

from __future__ import annotations

import pytest

from gateway.console.session import LIFE_S, LOCAL, Session, Sessions

KEY = "key_0190a0b0c0d0e0f0a0b0c0d0e0f00102"


class Stopped:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ms = 1_760_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


def sessions(secret: str = "s", clock: Stopped | None = None) -> Sessions:
    return Sessions(secret, clock or Stopped(), random_bytes=lambda size: b"\x07" * size)


def test_a_session_is_read_back_by_whoever_has_the_secret() -> None:
    text = sessions().begin(KEY)
    assert sessions().read(text) == Session(KEY, 1_760_000_000_000 + LIFE_S * 1000, "07" * 16)
    assert sessions("another").read(text) is None


def test_a_session_ends_on_the_millisecond() -> None:
    clock = Stopped()
    text = sessions(clock=clock).begin(KEY)
    clock.ms += LIFE_S * 1000 - 1
    assert sessions(clock=clock).read(text) is not None
    clock.ms += 1
    assert sessions(clock=clock).read(text) is None


def test_no_changed_text_is_a_session() -> None:
    text = sessions().begin(KEY)
    for place in range(len(text)):
        other = "1" if text[place] != "1" else "2"
        assert sessions().read(text[:place] + other + text[place + 1 :]) is None
    for changed in ("", text + ".", text[:-1], text + "0", text.upper(), " " + text, text + "\n", "ü" * 40):
        assert sessions().read(changed) is None


def test_a_token_fits_its_own_session_only() -> None:
    one, other = Session(KEY, 1, "a"), Session(KEY, 1, "b")
    token = sessions().token(one)
    assert sessions().fits(one, token)
    for session in (other, LOCAL, Session(KEY, 2, "a"), Session(KEY[:-1], 1, "a")):
        assert not sessions().fits(session, token)
    assert not sessions("another").fits(one, token)
    assert not sessions().fits(one, token + "ü")


def test_a_sessions_own_tag_is_no_token_of_its_forms() -> None:
    text = sessions().begin(KEY)
    session = sessions().read(text)
    assert session is not None
    assert not sessions().fits(session, text.rpartition(".")[2])


@pytest.mark.parametrize("size", [0, 10_000])
def test_texts_of_any_length_are_read(size: int) -> None:
    assert sessions().read("0" * size) is None
