"""The operator's page in a real browser: what is seen, what is clicked, what the page may load."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from chromium import CHROMIUM, Tab, open_tab
from running_gateway import RunningGateway, StartGateway, fault

from gateway.service.keys import Scope

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian package chromium)"),
]

PICTURES = Path(os.environ.get("MOTION_GATEWAY_ARTEFACTS", Path(__file__).parents[2] / "artefacts"))
"""Where pictures of the pages are kept."""
HOSTILE = (
    "</code><script>document.title = 'hurt'; window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"
)


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with open_tab(tmp_path / "chromium") as opened:
        await opened.look()
        yield opened


async def log_in(tab: Tab, running: RunningGateway) -> None:
    key = await running.gateway.parts.keys.create(name="night shift", owner="ops", scopes=[Scope.OPERATOR])
    await tab.go(f"{running.url}/console/login")
    await tab.write("#key", key.key)
    await tab.click("button")
    await tab.until("location.pathname === '/console' && document.readyState === 'complete'")


def check_origins(tab: Tab, running: RunningGateway) -> None:
    """Nothing was asked of anybody but the gateway, and whoever has the film; and nothing went wrong."""
    films = f"{running.simulator.url}/media/"
    for url in tab.asked:
        ours = url.startswith((f"{running.url}/", films)) or urlsplit(url).scheme in {"about", "data"}
        assert ours, url
    assert tab.said == []


async def test_a_job_is_watched_to_its_end_and_its_video_plays(start_gateway: StartGateway, tab: Tab) -> None:
    running = await start_gateway(simulator={"render": True, "run_s": 6.0})
    await tab.look(width=1200, height=1000)
    await log_in(tab, running)
    await tab.until("document.body.innerText.includes('No job was accepted yet')")
    running.break_(fault("refuse:insufficient_funds", provider="aimlapi", times=1))  # the next one has it
    job_id = await running.accept(metadata={"order": "8812"})
    await tab.until(f"document.querySelector('a[href=\"/console/jobs/{job_id}\"]')")  # it came by itself
    await tab.click(f'a[href="/console/jobs/{job_id}"]')
    await tab.until("document.querySelector('h1 .badge.running')")
    await tab.evaluate("window.same = 1")
    await tab.until("document.querySelector('h1 .badge.succeeded')")
    assert await tab.evaluate("window.same") == 1, "the page was loaded anew"
    await tab.until("document.querySelector('video')?.readyState >= 1")
    await tab.evaluate("const film = document.querySelector('video'); film.muted = true; film.play()")
    await tab.until("document.querySelector('video').currentTime > 0.3")
    await tab.picture(PICTURES / "console-job.png")  # docs/console.png is one of these
    assert any(url.startswith(f"{running.simulator.url}/media/") for url in tab.asked)
    check_origins(tab, running)


async def test_a_held_job_is_adopted_by_a_click(start_gateway: StartGateway, tab: Tab) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider="runway", times=1))
    job_id = await running.accept("runway")
    await running.held(job_id)
    (run,) = running.simulator.simulator._mounts["runway"].jobs._jobs.values()
    await log_in(tab, running)
    await tab.click('nav a[href="/console/held"]')
    await tab.until("document.querySelector('input[name=provider_ref]')")
    await tab.picture(PICTURES / "console-held.png")
    await tab.write("input[name=provider_ref]", run.ref)
    await tab.click("input[name=provider_ref] + button")
    await tab.until(f"location.pathname === '/console/jobs/{job_id}'")
    await tab.until("document.querySelector('h1 .badge.succeeded')")
    assert (await running.ended(job_id))["status"] == "succeeded"
    assert await running.accepted("runway") == 1
    check_origins(tab, running)


async def test_a_refresh_takes_nothing_out_of_anybodys_hands(start_gateway: StartGateway, tab: Tab) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider="runway", times=1))
    job_id = await running.accept("runway")
    await running.held(job_id)
    await log_in(tab, running)
    page = f"{running.url}/console/jobs/{job_id}"
    await tab.go(page)
    await tab.write("input[name=provider_ref]", "half a re")
    await tab.click(".timeline summary")
    shown = await tab.until("document.querySelector('[data-live=timeline]').innerText")
    asked = tab.asked.count(page)
    await tab.until(f"document.querySelector('[data-live=timeline]').innerText !== {json.dumps(shown)}")
    assert tab.asked.count(page) > asked
    assert await tab.evaluate("document.querySelector('.timeline details').open")
    assert await tab.evaluate("document.querySelector('input[name=provider_ref]').value") == "half a re"
    check_origins(tab, running)


async def test_what_may_be_paid_twice_is_asked_once_more(start_gateway: StartGateway, tab: Tab) -> None:
    running = await start_gateway()
    running.break_(fault("accept_reset", provider="runway", times=1))
    job_id = await running.accept("runway")
    await running.held(job_id)
    await log_in(tab, running)
    await tab.go(f"{running.url}/console/jobs/{job_id}")
    await tab.click("button[value=resubmit]")
    await tab.until("document.querySelector('#sure')")
    assert await running.accepted("runway") == 1
    await tab.picture(PICTURES / "console-sure.png")
    await tab.click("#sure")
    await tab.until(f"location.pathname === '/console/jobs/{job_id}'")
    await tab.until("document.querySelector('h1 .badge.succeeded')")
    assert await running.accepted("runway") == 2
    check_origins(tab, running)


async def test_a_script_in_a_jobs_metadata_does_not_run(start_gateway: StartGateway, tab: Tab) -> None:
    running = await start_gateway()
    job_id = await running.accept("runway", metadata={HOSTILE[:64]: HOSTILE})
    await running.ended(job_id)
    await log_in(tab, running)
    await tab.go(f"{running.url}/console/jobs/{job_id}")
    await tab.until(f"document.body.innerText.includes({json.dumps(HOSTILE)})")
    await tab.evaluate("window.same = 1")
    await tab.until("document.getElementById('pulse').textContent === 'live'")
    assert await tab.evaluate("window.hurt === undefined && document.title.includes('Motion Gateway')")
    assert await tab.evaluate("document.querySelectorAll('main script, main img').length") == 0
    check_origins(tab, running)
    # And were it in the page, the policy would not let it run.
    await tab.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.hurt = 1\">')"
    )
    await tab.until("true")
    assert await tab.evaluate("new Promise((done) => setTimeout(() => done(window.hurt === undefined), 200))")
    assert any("Content Security Policy" in said for said in tab.said)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (400, False), (400, True)])
async def test_every_page_fits_its_window(
    start_gateway: StartGateway, tab: Tab, width: int, *, dark: bool
) -> None:
    running = await start_gateway(settings={"WEBHOOKS__ALLOW_HTTP": "true"})
    running.break_(fault("accept_reset", provider="runway", times=1))
    held = await running.accept("runway")
    await running.held(held)
    done = await running.accept("eachlabs", metadata={"order": "x" * 512})
    await running.ended(done)
    endpoint = await running.gateway.parts.endpoints.create(
        owner="tester", url="https://shop.example/" + "long/" * 60
    )
    await running.gateway.parts.endpoints.disable(endpoint.id, owner=None)
    await log_in(tab, running)
    await tab.look(width=width, dark=dark)
    pages = {
        "jobs": "", "job": f"/jobs/{done}", "held-job": f"/jobs/{held}", "held": "/held",
        "providers": "/providers", "endpoints": "/endpoints", "endpoint": f"/endpoints/{endpoint.id}",
    }  # fmt: skip
    for name, path in pages.items():
        await tab.go(f"{running.url}/console{path}")
        wide = await tab.evaluate("document.documentElement.scrollWidth")
        await tab.picture(PICTURES / f"console-{name}-{width}{'-dark' if dark else ''}.png", whole=True)
        assert wide <= width, (name, wide)
    check_origins(tab, running)
