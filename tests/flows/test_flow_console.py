"""The operator's pages over HTTP: what is done there, what is shown, and that nothing on them is believed."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from console_browser import HURT, NOBODY, browser_of, held_job, logged_in, token_of
from running_gateway import BOTH_ENGINES, StartGateway, asked, fault
from sqlalchemy import Connection
from webhook_receiver import open_receiver

from gateway.console.jobs import PAGE
from gateway.console.routes import PATHS
from gateway.console.words import is_web, origin_of

OPEN = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}
SCRIPT = '<script src="/console/static/console.js" defer>'
CONSOLE = Path(__file__).parents[2] / "gateway" / "console"


# --- what is done ---


@BOTH_ENGINES
async def test_a_held_job_is_adopted(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    job = await held_job(running)
    (run,) = running.simulator.simulator._mounts["runway"].jobs._jobs.values()
    form = {"action": "adopt", "attempt": job["attempts"][0]["id"], "provider_ref": run.ref}
    path = f"/console/jobs/{job['id']}/resolve"
    async with logged_in(running) as browser:
        form["token"] = await token_of(browser, "/console/held")
        unknown = await browser.post(path, data=form | {"provider_ref": "no-such-run"})
        assert (unknown.status_code, "the provider does not know it" in unknown.text) == (422, True)
        assert (await browser.post(path, data=form | {"provider_ref": " "})).status_code == 422
        adopted = await browser.post(path, data=form)
        assert adopted.headers["location"] == f"/console/jobs/{job['id']}?done=adopt"
        assert (await running.ended(job["id"]))["status"] == "succeeded"
        again = await browser.post(path, data=form)
        assert again.status_code == 409
    notes = [one for one in await running.timeline(job["id"], "event") if one["type"] == "hold.resolved"]
    assert [one["data"]["note"]["action"] for one in notes] == ["adopt"]


@pytest.mark.parametrize("action", ["resubmit", "fail"])
async def test_what_may_cost_twice_is_asked_once_more(start_gateway: StartGateway, action: str) -> None:
    running = await start_gateway()
    job = await held_job(running)
    path = f"/console/jobs/{job['id']}/resolve"
    async with logged_in(running) as browser:
        form = {"token": await token_of(browser), "action": action, "attempt": job["attempts"][0]["id"]}
        asked = await browser.post(path, data=form)
        assert asked.status_code == 200
        assert 'name="sure" value="yes"' in asked.text
        assert (await running.job(job["id"]))["held"] is not None
        stale = await browser.post(path, data=form | {"attempt": f"att_{NOBODY}", "sure": "yes"})
        assert stale.status_code == 409
        assert (await browser.post(path, data=form | {"sure": "yes"})).status_code == 303
    ended = await running.ended(job["id"])
    assert ended["status"] == ("succeeded" if action == "resubmit" else "failed")
    assert await running.accepted("runway") == (2 if action == "resubmit" else 1)


async def test_a_delivery_is_sent_again_and_an_endpoint_enabled(start_gateway: StartGateway) -> None:
    async with open_receiver() as receiver:
        running = await start_gateway(settings=OPEN)
        endpoints = running.gateway.parts.endpoints
        endpoint = await endpoints.create(owner="tester", url=receiver.url())
        job_id = await running.accept("runway")
        await receiver.received(lambda all_: len(all_) == 1)
        async with logged_in(running) as browser:
            page = f"/console/endpoints/{endpoint.id}"

            async def settled() -> bool:
                return "delivered" in (await browser.get(page)).text

            await running.when(settled)
            (delivery,) = set(re.findall(r"/console/deliveries/(dlv_\w+)/", (await browser.get(page)).text))
            again = f"/console/deliveries/{delivery}/redeliver"
            token = await token_of(browser)
            for origin, back in (("endpoint", page), ("job", f"/console/jobs/{job_id}")):
                sent = await browser.post(again, data={"token": token, "from": origin})
                assert sent.headers["location"] == f"{back}?done=redeliver"
            await receiver.received(lambda all_: len(all_) >= 2)
            await endpoints.disable(endpoint.id, owner=None)
            assert "somebody wished it" in (await browser.get(page)).text
            assert (await browser.post(again, data={"token": token})).status_code == 409
            enabled = await browser.post(f"{page}/enable", data={"token": token})
            assert enabled.headers["location"] == f"{page}?done=enable"
        assert (await endpoints.show(endpoint.id, owner=None)).state == "enabled"


# --- what is shown ---


@BOTH_ENGINES
async def test_an_operator_sees_everybodys_jobs_and_finds_them(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    mine = await running.accept("runway")
    async with running.another_client("rosa & co") as client:
        theirs = (await client.post("/v1/jobs", json=asked("eachlabs"))).json()["id"]
    async with logged_in(running) as browser:
        for query, seen in (
            ("", {mine, theirs}),
            ("?owner=rosa+%26+co", {theirs}),
            ("?owner=nobody", set()),
            ("?status=queued&provider=&owner=", {mine, theirs}),
            ("?status=failed", set()),
            ("?held=true", set()),
        ):
            page = (await browser.get(f"/console{query}")).text
            assert set(re.findall(r"/console/jobs/(job_\w+)", page)) == seen, query
        assert "rosa &amp; co" in (await browser.get(f"/console/jobs/{theirs}")).text


async def test_a_long_list_has_pages(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    accepted = [await running.accept("runway") for _ in range(PAGE + 2)]
    async with logged_in(running) as browser:
        first = (await browser.get("/console?status=queued")).text
        older = re.search(r'href="(/console\?[^"]*cursor=[^"]*)"', first)
        assert older is not None
        second = (await browser.get(unescape(older[1]))).text
        seen = [re.findall(r"/console/jobs/(job_\w+)", page) for page in (first, second)]
        assert seen == [accepted[:1:-1], accepted[1::-1]]
        assert "cursor=" not in second
        strange = await browser.get(unescape(older[1]).replace("status=queued", "status=failed"))
        assert strange.status_code == 400


async def test_whatever_clients_providers_and_receivers_say_is_shown_as_text(
    start_gateway: StartGateway,
) -> None:
    said = HURT.encode()
    async with open_receiver(
        b"HTTP/1.1 500 Error\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said)
    ) as receiver:
        running = await start_gateway(settings=OPEN)
        async with running.another_client(HURT) as client, logged_in(running) as browser:
            endpoint = await running.gateway.parts.endpoints.create(
                owner=HURT, url=receiver.url() + "?x=%27<script>hurt()", description=HURT
            )

            async def post() -> str:
                reply = await client.post("/v1/jobs", json=asked("runway", metadata={HURT[:64]: HURT}))
                accepted: str = reply.json()["id"]
                return accepted

            async def seen(path: str, words: str) -> None:
                async def there() -> bool:
                    return words in (await browser.get(f"/console{path}")).text

                await running.when(there)

            running.break_(fault("accept_reset", provider="runway", times=1))
            held = await post()
            await seen("/held", held)
            job_id = await post()
            await seen(f"/endpoints/{endpoint.id}", "http_error")
            shown = 0
            for path in (
                "",
                f"/jobs/{job_id}",
                f"/jobs/{held}",
                "/held",
                "/endpoints",
                f"/endpoints/{endpoint.id}",
            ):
                page = (await browser.get(f"/console{path}")).text
                assert "hurt()>" not in page, path
                assert "<img" not in page, path
                assert set(re.findall(r"<script[^>]*>", page)) == {SCRIPT}, path
                shown += HURT in unescape(page)
            assert shown == 6


async def test_an_output_that_is_no_web_address_is_neither_played_nor_linked() -> None:
    for url in (
        "javascript:hurt()",
        "data:text/html,x",
        "http://[",
        "//elsewhere",
        "https://a\nb",
        "https://",
    ):
        assert not is_web(url)
    assert is_web("https://cdn.example/film.mp4?sig=a%20b")
    assert origin_of("https://user@cdn.example:8443/film.mp4") == "https://cdn.example:8443"
    assert origin_of("https://cdn.example;script-src *") is None


async def test_every_answer_bears_the_policy(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    job_id = await running.accept("runway")
    await running.ended(job_id)
    async with browser_of(running) as stranger, logged_in(running) as browser:
        answers = [
            await stranger.get("/console"),
            await stranger.get("/console/login"),
            await stranger.post("/console/login", data={"key": "mgk_guess"}),
            await browser.post("/console/logout", data={}),
        ]
        paths = (
            "", "/held", "/providers", "/endpoints", f"/jobs/{job_id}", "/static/console.css",
            "/static/console.js", "/static/console.py", "/nowhere", "?status=rubbish", "/jobs/rubbish",
        )  # fmt: skip
        answers += [await browser.get(f"/console{path}") for path in paths]
        for answer in answers:
            policy = dict(
                part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
            )
            films = policy.pop("media-src")
            own = answer.request.url.path == f"/console/jobs/{job_id}"
            assert films == (f"{running.simulator.url} https:" if own else "'none'")
            assert policy == {
                "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
                "img-src": "'self' data:", "connect-src": "'self'", "form-action": "'self'",
                "frame-ancestors": "'none'", "base-uri": "'none'",
            }  # fmt: skip
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cache-control"] == "no-store"


async def test_no_rubbish_is_answered_500(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    rubbish = ("x", "%00", "%ff", "%F0%9F%92%A9", "..%2f..%2fetc", "a" * 2000, "'", "job_" + "g" * 32)
    async with logged_in(running) as browser:
        token = await token_of(browser)
        for word in rubbish:
            for path in ("jobs/{}", "endpoints/{}", "static/{}", "{}", "jobs/{}/resolve", "deliveries/{}"):
                answer = await browser.get(f"/console/{path.format(word)}")
                assert answer.status_code in {404, 405}, (path, word)
            for name in ("status", "owner", "provider", "held", "cursor", "done", word):
                answer = await browser.get(f"/console?{name}={word}")
                assert answer.status_code < 500, (name, word)
            for path in ("jobs/{}/resolve", "deliveries/{}/redeliver", "endpoints/{}/enable"):
                form = {"token": token, "action": "fail", "attempt": word}
                answer = await browser.post(f"/console/{path.format(word)}", data=form)
                assert answer.status_code == 404, (path, word)
        assert (await browser.get(f"/console/jobs/job_{NOBODY}")).status_code == 404


async def test_a_plan_of_another_version_costs_nobody_the_page(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept("runway")

    def change(connection: Connection) -> None:
        first = "FROM events WHERE sequence = 1"
        data = json.loads(connection.exec_driver_sql(f"SELECT data {first}").scalar_one())
        newer = json.dumps(data | {"plan": {"newer": ["form"]}})
        connection.exec_driver_sql("UPDATE events SET data = ? WHERE sequence = 1", (newer,))

    async with logged_in(running) as browser:
        assert "not_requested" in (await browser.get(f"/console/jobs/{job_id}")).text
        await running.gateway.parts.store.database.write(change)
        page = await browser.get(f"/console/jobs/{job_id}")
        assert (page.status_code, "another version" in page.text, "newer" in page.text) == (200, True, True)


@BOTH_ENGINES
async def test_providers_are_shown_with_slots_breakers_and_error_rates(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={"PROVIDERS__RUNWAY__MAX_IN_FLIGHT": "7"})
    await running.ended(await running.accept("eachlabs"))
    await held_job(running)
    running.break_(fault("refuse:insufficient_funds", provider="aimlapi"))
    job_id = await running.accept("aimlapi")
    await running.until(job_id, lambda job: job["attempts"])
    async with logged_in(running) as browser:

        async def shut() -> bool:
            return "unfunded" in (await browser.get("/console/providers")).text

        await running.when(shut)
        page = (await browser.get("/console/providers")).text
    rows = re.findall(r"<td data-label=\"Account\">.*?</tr>", page, re.DOTALL)
    words = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]
    assert len(words) == 3
    assert "submit" in words[0]
    assert "0 % 1 succeeded" in words[1]
    assert "1 of 7" in words[2]
    assert "100 % 1 unknown" in words[2]


async def test_the_metrics_know_every_page(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    app: Any = running.gateway.asgi._app
    assert {route.path_format for route in app.routes if route.path_format.startswith("/console")} == PATHS


def test_nothing_is_loaded_from_outside() -> None:
    files = [file for folder in ("templates", "static") for file in (CONSOLE / folder).iterdir()]
    assert len(files) > 10
    for file in files:
        text = file.read_text()
        assert re.findall(r"https?:|@import|url\(|//[a-z]", text) == [], file.name
        assert re.findall(r"\bstyle=|\bon[a-z]+=|<script>|<style|javascript:|\| *safe", text) == [], file.name
        for loaded in re.findall(r'(?:src|href)="([^"{#]+)', text):
            assert loaded.startswith(("/", "data:,")), (file.name, loaded)
