"""A request, its call and its reply, as the tests of Eachlabs's adapter and emulation need them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from providers.contract.adapter import CallContext
from providers.contract.emulation import WireRequest
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference
from providers.contract.normalize import Update, normalize
from providers.eachlabs import adapter
from providers.eachlabs.spec import ACT_TWO, SPEC

REF = "f2762a7e-2362-40cf-be4a-b0cffe2e1177"
OUTPUT = "https://cdn.example/out.mp4?sig=1"
REQUEST = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url="https://media.example/hero.png"),
    reference=Reference(url="https://media.example/act.mp4"),
)


def context(ref: str = "", **options: str) -> CallContext:
    return CallContext(model=ACT_TWO, attempt_id="att_1", ref=ref, options=options)


def arrived(asked: HttpRequest, key: Mapping[str, str] | None = None) -> WireRequest:
    """What the provider's side sees of a request that the gateway sent."""
    auth = {"authorization": "Bearer k"} if key is None else key
    return WireRequest(
        method=asked.method,
        path=asked.path,
        query=dict(asked.query),
        headers={**auth, **{name.lower(): value for name, value in asked.headers}},
        body=b"" if asked.json is None else msgspec.json.encode(asked.json),
    )


def body_of(request: MotionRequest) -> dict[str, object]:
    body = adapter.build_submit(request, context()).json
    assert body is not None
    return body


def seen(response: HttpResponse) -> Update:
    assert response.status == 200
    return normalize(SPEC, adapter.parse_poll(response))
