from __future__ import annotations

import copy
import pickle

import msgspec
import pytest
from settings_examples import CANARY

from gateway.settings import Account, Secret


def test_shows_nothing_in_any_rendering() -> None:
    secret = Secret(CANARY)
    account = Account(api_key=secret, base_url="https://api.example")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        repr(account),
        repr([secret]),
    ]
    assert not [text for text in shown if CANARY in text]
    assert repr(secret) == "********"


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins])
def test_a_struct_that_holds_one_cannot_be_encoded(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(TypeError):
        encode(Account(api_key=Secret(CANARY), base_url="https://api.example"))


def test_is_not_pickled_and_has_no_dict() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(CANARY))
    assert not hasattr(Secret(CANARY), "__dict__")


def test_copies_are_the_secret_itself() -> None:
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_equal_by_text_and_never_to_a_plain_text() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret(CANARY + "x")
    assert Secret(CANARY) != CANARY
    assert Secret("gehe\u0301im") == Secret("gehe\u0301im")
    assert len({Secret(CANARY), Secret(CANARY)}) == 1
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize("empty", ["", " ", "\n\t"])
def test_refuses_empty(empty: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        Secret(empty)
