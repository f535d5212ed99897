"""The simulator from outside: refusals, counting, garbage, outputs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from simulator_fleet import EMULATIONS, NAMES, FakeClock, asking, fast_simulator, fleet

from gateway.simulator import Simulator
from gateway.simulator.film import probe
from gateway.simulator.samples import SAMPLE_HOST
from gateway.simulator.wire import MAX_BODY_BYTES
from providers.contract.emulation import Answer, Rules, WireRequest
from providers.contract.motion import Character, CharacterType, MotionRequest, Ratio, Reference

RUNWAY_HEADERS = {"authorization": "Bearer key_test", "x-runway-version": "2024-11-06"}
RUNWAY_BODY = {
    "model": "act_two",
    "character": {"type": "image", "uri": "https://media.example/hero.png"},
    "reference": {"type": "video", "uri": "https://media.example/act.mp4"},
}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"x-runway-version": ""}, {}, 400),
        ({"x-runway-version": "2023-01-01"}, {}, 400),
        ({"authorization": "Bearer "}, {}, 401),
        ({"authorization": "Bearer key_other"}, {}, 401),
        ({}, {"ratio": "1:1"}, 400),
        ({}, {"ratio": 7}, 400),
        ({}, {"character": {"type": "image", "uri": "http://media.example/hero.png"}}, 400),
        ({}, {"character": {"type": "image", "uri": "https://10.0.0.1/hero.png"}}, 400),
        ({}, {"character": {"type": "image", "uri": "https://[::1]/hero.png"}}, 400),
        ({}, {"contentModeration": {"publicFigureThreshold": "auto", "more": 1}}, 400),
        ({}, {"expressionIntensity": 6}, 400),
    ],
)
async def test_runway_refuses_exactly_as_its_emulation_does(
    headers: dict[str, str], body: dict[str, Any], status: int
) -> None:
    rules = Rules(keys=frozenset({"key_test"}))
    sent, content = RUNWAY_HEADERS | headers, msgspec.json.encode(RUNWAY_BODY | body)
    request = WireRequest(method="POST", path=("v1", "character_performance"), headers=sent, body=content)
    wanted = EMULATIONS["runway"].receive(request, rules)
    assert isinstance(wanted, Answer)
    async with fleet(rules=rules) as providers:
        answer = await providers.http.post("/runway/v1/character_performance", headers=sent, content=content)
        stats = await providers.stats()
    assert (answer.status_code, answer.content) == (wanted.response.status, wanted.response.body)
    assert answer.status_code == status
    assert (stats["accepted"]["runway"], stats["refused"]["runway"]) == (0, 1)


async def test_a_missing_version_header_is_refused() -> None:
    async with fleet() as providers:
        headers = {"authorization": "Bearer key_test"}
        answer = await providers.http.get("/runway/v1/organization", headers=headers)
        assert answer.status_code == 400
        assert "X-Runway-Version" in answer.json()["error"]


@pytest.mark.parametrize("name", NAMES)
async def test_jobs_are_counted_by_character(name: str) -> None:
    hero, villain = "https://media.example/hero.png", "https://media.example/villain.png?size=2"
    async with fleet() as providers:
        for url in (hero, villain, villain):
            ref = await providers[name].submitted(asking(url))
        await providers[name].poll(ref)
        await providers[name].poll("unknown")
        stats = await providers.stats()
    assert stats["accepted"] == dict.fromkeys(NAMES, 0) | {name: 3}
    assert stats["by_character"][name] == {hero: 1, villain: 2}
    assert stats["polls"][name] == 2
    assert stats["refused"][name] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "//", 404),
        ("GET", "/nobody/v1/tasks/1", 404),
        ("GET", "/media", 404),
        ("GET", "/media/nobody/x.mp4", 404),
        ("GET", "/media/runway/x.mp4", 404),
        ("GET", "/media/runway/x.mp4/y", 404),
        ("POST", "/media/runway/x.mp4", 405),
        ("GET", "/_stats/x", 404),
        ("POST", "/_stats", 405),
        ("PUT", "/_faults", 405),
        ("GET", "/runway/v1/tasks/%FF", 400),
        ("GET", "/%C0%AF", 400),
        ("GET", "/runway/v1/tasks/..%2F..%2F_stats", 404),
        ("BREW", "/runway/v1/tasks/1", 404),
    ],
)
async def test_garbage_gets_a_json_refusal(method: str, path: str, status: int) -> None:
    async with fleet() as providers:
        answer = await providers.http.request(method, path, headers=RUNWAY_HEADERS)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b'{"model": "act_two", "character": {"type": "image", "uri": "https://[1/aaaaaaaaaaaa"}}',
    ],
)
async def test_a_garbage_body_gets_a_refusal(name: str, content: bytes) -> None:
    async with fleet() as providers:
        headers = dict(providers[name].submission().headers)
        del headers["content-length"]
        garbage = httpx.Request("POST", providers[name].submission().url, headers=headers, content=content)
        answer = await providers.http.send(garbage)
        assert 400 <= answer.status_code < 500
        assert (await providers.stats())["accepted"][name] == 0


@pytest.mark.parametrize("name", NAMES)
async def test_a_url_that_is_none_gets_a_refusal_and_no_traceback(name: str) -> None:
    async with fleet() as providers:
        answer = await providers[name].submit(asking("https://[1::bad/aaaaaaaaaaaa.png"))
        assert 400 <= answer.status_code < 500


async def test_a_body_without_end_is_refused() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000_000

    async with fleet() as providers:
        answer = await asyncio.wait_for(
            providers.http.post(
                "/runway/v1/character_performance", headers=RUNWAY_HEADERS, content=endless()
            ),
            timeout=10,
        )
        assert answer.status_code == 413
        assert str(MAX_BODY_BYTES) in answer.json()["error"]


async def test_a_provider_named_like_a_route_is_refused() -> None:
    with pytest.raises(ValueError, match="/_stats"):
        Simulator({"_stats": EMULATIONS["runway"]}, clock=FakeClock())


async def test_an_encoded_slash_stays_in_its_segment() -> None:
    odd = msgspec.structs.replace(EMULATIONS["runway"], ref_of=lambda digits: f"a/b c/%2F/{digits}")
    async with fleet({"runway": odd}) as providers:
        ref = (await providers["runway"].submit()).json()["id"]
        await providers.finish()
        observed = await providers["runway"].seen(ref)
        assert (await providers["runway"].download(observed)).status_code == 200


@pytest.mark.parametrize(("name", "ratio"), [*zip(NAMES, Ratio, strict=False)])
async def test_outputs_are_playable_films_of_the_asked_size_and_the_references_length(
    name: str, ratio: Ratio
) -> None:
    async with fleet(render=True) as providers:
        caller = providers[name]
        ref = await caller.submitted(asking(ratio=ratio))
        await providers.finish()
        observed = await caller.seen(ref)
        (url,) = observed.outputs
        head, film = await providers.http.head(url), await caller.download(observed)
    assert film.headers["content-type"] == head.headers["content-type"] == "video/mp4"
    assert head.headers["content-length"] == film.headers["content-length"] == str(len(film.content))
    assert head.content == b""
    shown = probe(film.content)
    assert (shown.width, shown.height) == ratio.size
    assert shown.codec == "h264"
    assert abs(shown.duration_s - 4.0) < 0.1


async def test_a_character_may_be_a_video() -> None:
    request = MotionRequest(
        character=Character(type=CharacterType.VIDEO, url=f"https://{SAMPLE_HOST}/performance.mp4"),
        reference=Reference(url=f"https://{SAMPLE_HOST}/performance.mp4"),
    )
    async with fleet() as providers:
        ref = await providers["runway"].submitted(request)
        await providers.finish()
        assert (await providers["runway"].seen(ref)).status == "SUCCEEDED"


async def test_fifty_jobs_of_the_same_inputs_share_one_film(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def render(**options: Any) -> bytes:
        rendered.append(options["label"])
        return b"film"

    monkeypatch.setattr("gateway.simulator.studio.render", render)
    async with fleet(render=True) as providers:
        refs = [await providers["runway"].submitted() for _ in range(50)]
        await providers.finish()
        for ref in refs:
            assert (
                await providers["runway"].download(await providers["runway"].seen(ref))
            ).content == b"film"
        await providers["runway"].submitted(asking("https://media.example/hero.png"))
        await providers.finish()
    assert rendered == ["runway", "runway, stand-in media"]


async def test_the_oldest_films_lapse_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.simulator.studio.render", lambda **_: bytes(100))
    async with fleet(render=True) as providers:
        providers.simulator._studio._kept_bytes = 250
        refs = [await providers["runway"].submitted(asking(ratio=ratio)) for ratio in list(Ratio)[:3]]
        await providers.finish()
        films = [await providers["runway"].download(await providers["runway"].seen(ref)) for ref in refs]
        assert [film.status_code for film in films] == [404, 200, 200]


async def test_a_job_ends_even_if_rendering_breaks_in_an_unforeseen_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr("gateway.simulator.studio.render", broken)
    async with fleet(render=True) as providers:
        ref = await providers["runway"].submitted()
        await providers.finish()
        seen = await providers["runway"].seen(ref)
    assert seen.status == "FAILED"
    assert seen.failure is not None
    assert seen.failure.code == "INTERNAL"
    assert "has no film" in caplog.text


async def test_after_its_end_it_answers_that_it_is_stopping() -> None:
    async with fleet() as providers:
        await providers["runway"].submitted()
        await providers.simulator.stop()
        assert (await providers["runway"].submit()).status_code == 503
        assert (await providers.http.get("/_stats")).status_code == 503


async def test_only_http_is_spoken() -> None:
    async def nothing() -> dict[str, Any]:
        return {}

    async def nowhere(_: Any) -> None:
        return

    simulator = fast_simulator(FakeClock())
    with pytest.raises(NotImplementedError, match="websocket"):
        await simulator.asgi({"type": "websocket"}, nothing, nowhere)
    await simulator.stop()
