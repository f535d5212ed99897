"""The console's entrance over HTTP: who is let in, for how long, and what a form must bear."""

from __future__ import annotations

import pytest
from console_browser import HURT, NOBODY, browser_of, held_job, logged_in, operator_key, token_of
from running_gateway import BOTH_ENGINES, JumpClock, RunningGateway, StartGateway

from gateway.console.entrance import COOKIE, TRIES
from gateway.console.session import LIFE_S

# --- who is let in ---


async def test_without_a_session_every_page_leads_to_the_log_in(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    async with browser_of(running) as browser:
        for path in (
            "",
            "/held",
            "/providers",
            "/endpoints",
            f"/jobs/job_{NOBODY}",
            f"/endpoints/we_{NOBODY}",
        ):
            answer = await browser.get(f"/console{path}")
            assert answer.status_code == 303
            assert answer.headers["location"] == "/console/login" + (f"?to=/console{path}" if path else "")
        forged = {COOKIE: f"{running.key.id}.99999999999999.{NOBODY}.{'0' * 64}"}
        browser.cookies.update(forged)
        assert (await browser.get("/console")).status_code == 303
        # A key in the header is the API's way, and no browser's.
        key = await operator_key(running)
        answer = await browser.get("/console", headers={"Authorization": f"Bearer {key.key}"})
        assert answer.status_code == 303


async def test_a_key_that_is_not_good_or_lacks_the_scope_is_not_let_in(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    async with browser_of(running) as browser:
        for key, status in (("mgk_no-such-key", 401), ("", 401), ("ü", 401), (running.key.key, 403)):
            answer = await browser.post("/console/login", data={"key": key})
            assert answer.status_code == status
            assert "set-cookie" not in answer.headers
            assert key == "" or key not in answer.text


async def test_the_cookie_holds_no_key_and_is_kept_from_scripts_and_other_sites(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings={"SERVER__PUBLIC_URL": "https://gateway.example"})
    key = await operator_key(running)
    async with browser_of(running) as browser:
        answer = await browser.post("/console/login", data={"key": key.key})
    cookie = answer.headers["set-cookie"]
    assert key.key.removeprefix("mgk_") not in cookie
    _, *attributes = cookie.split("; ")
    assert attributes == ["Path=/console", f"Max-Age={LIFE_S}", "HttpOnly", "SameSite=Strict", "Secure"]


@BOTH_ENGINES
async def test_a_session_ends_with_its_key_at_once_and_by_itself_after_a_shift(
    start_gateway: StartGateway,
) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    key = await operator_key(running)
    async with browser_of(running) as browser:
        await browser.post("/console/login", data={"key": key.key})
        assert (await browser.get("/console")).status_code == 200
        await running.gateway.parts.keys.revoke(key.id)
        assert (await browser.get("/console")).status_code == 303
    async with logged_in(running) as browser:
        await running.sleep(clock, LIFE_S - 60)
        assert (await browser.get("/console")).status_code == 200
        await running.sleep(clock, 61)
        assert (await browser.get("/console")).status_code == 303


@pytest.mark.parametrize(
    ("asked_for", "page"),
    [
        (f"/console/jobs/job_{NOBODY}", f"/console/jobs/job_{NOBODY}"),
        ("/console/held", "/console/held"),
        ("https://elsewhere.example/", "/console"),
        ("//elsewhere.example/console", "/console"),
        ("/console/../v1/jobs", "/console"),
        ("/console/held\r\nSet-Cookie: a=b", "/console"),
        (HURT, "/console"),
    ],
)
async def test_after_the_log_in_comes_the_page_that_was_asked_for_if_it_is_ours(
    running: RunningGateway, asked_for: str, page: str
) -> None:
    key = await operator_key(running)
    async with browser_of(running) as browser:
        form = await browser.get("/console/login", params={"to": asked_for})
        assert f'name="to" value="{page}"' in form.text
        entered = await browser.post("/console/login", data={"key": key.key, "to": asked_for})
        assert entered.headers["location"] == page


async def test_who_logs_out_is_out(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    async with logged_in(running) as browser:
        session = browser.cookies[COOKIE]
        left = await browser.post("/console/logout", data={"token": await token_of(browser)})
        assert left.headers["location"] == "/console/login"
        assert (await browser.get("/console")).status_code == 303
        browser.cookies.set(COOKIE, session, path="/console")  # whoever kept a copy is out, too
        assert (await browser.get("/console")).status_code == 303


async def test_log_ins_that_fail_are_limited_and_good_ones_are_not(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    key = await operator_key(running)
    async with browser_of(running) as browser:
        for _ in range(TRIES.count):
            assert (await browser.post("/console/login", data={"key": "mgk_guess"})).status_code == 401
        refused = await browser.post("/console/login", data={"key": "mgk_guess"})
        assert (refused.status_code, "set-cookie" in refused.headers) == (429, False)
        assert 0 < int(refused.headers["retry-after"]) <= TRIES.interval_s
        # Behind a proxy whoever guesses has the address of those who do not need to.
        assert (await browser.post("/console/login", data={"key": key.key})).status_code == 303
        clock.jump(TRIES.interval_s)
        assert (await browser.post("/console/login", data={"key": "mgk_guess"})).status_code == 401


async def test_pages_count_towards_the_rate_of_their_key(start_gateway: StartGateway) -> None:
    running = await start_gateway(clock=JumpClock(), settings={"LIMITS__RATE": "3/m"})
    async with logged_in(running) as browser:
        answers = [(await browser.get("/console")).status_code for _ in range(3)]
    assert answers == [200, 200, 429]


async def test_without_keys_nobody_logs_in_and_foreign_names_are_refused(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings={"AUTH__REQUIRED": "false"})
    async with browser_of(running) as browser:
        assert (await browser.get("/console")).status_code == 200
        assert "Log out" not in (await browser.get("/console")).text
        assert (await browser.get("/console/login")).headers["location"] == "/console"
        for host in ("rebound.example", "rebound.example:80", "127.0.0.1.rebound.example", "[", ""):
            assert (await browser.get("/console", headers={"Host": host})).status_code == 403, host
        job = await held_job(running)
        settled = await browser.post(
            f"/console/jobs/{job['id']}/resolve",
            data={"token": await token_of(browser, "/console/held"), "action": "fail", "sure": "yes"},
        )
        assert settled.status_code == 303
        assert (await running.job(job["id"]))["status"] == "failed"


# --- what a form must bear ---


FOREIGN = [
    {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_what_another_site_sends_changes_nothing(
    start_gateway: StartGateway, headers: dict[str, str]
) -> None:
    running = await start_gateway()
    job = await held_job(running)
    async with logged_in(running) as browser:
        form = {"token": await token_of(browser), "action": "fail", "sure": "yes"}
        for name in ("Origin", "Sec-Fetch-Site"):
            del browser.headers[name]
        path = f"/console/jobs/{job['id']}/resolve"
        assert (await browser.post(path, data=form, headers=headers)).status_code == 403
        key = await operator_key(running)
        entered = await browser.post("/console/login", data={"key": key.key}, headers=headers)
        assert (entered.status_code, "set-cookie" in entered.headers) == (403, False)
    assert (await running.job(job["id"]))["held"] is not None


async def test_a_form_without_its_sessions_token_changes_nothing(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    job = await held_job(running)
    path = f"/console/jobs/{job['id']}/resolve"
    async with logged_in(running) as browser, logged_in(running) as another:
        for token in (None, "", "0" * 64, await token_of(another)):
            form = {"action": "fail", "sure": "yes"} | ({} if token is None else {"token": token})
            assert (await browser.post(path, data=form)).status_code == 403
        assert (await browser.post(path, json={"action": "fail"})).status_code == 415
        twice = f"token={await token_of(browser)}&action=fail&action=resubmit&sure=yes"
        form_type = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await browser.post(path, content=twice, headers=form_type)).status_code == 400
        assert (await browser.post(path, content="x" * 9000, headers=form_type)).status_code == 413
    assert (await running.job(job["id"]))["held"] is not None
