"""From a job's webhook to the socket: nothing that leads inside is dialled, however it is written.

A URL that shows where it leads is refused with the job; a name that turns out to lead there is logged as
blocked when it is sent to.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from recording_dialer import RecordingDialer
from running_gateway import (
    EMULATIONS,
    PROVIDERS,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    asked,
    open_gateway,
)

from gateway.clock import SystemClock
from gateway.simulator import Simulator, serve_simulator
from providers.contract.emulation import Emulation
from providers.contract.exchange import HttpResponse

PROVIDER = PROVIDERS[0]
ONE_TRY = {"WEBHOOKS__SCHEDULE_S": "0", "WEBHOOKS__JITTER": "0"}
PUBLIC = "8.8.8.8"
"""Never dialled either: the recording dialer raises."""

#: How a URL may name an address of ours: the host as it is written, and what is said to it.
LITERALS = {
    "loopback": ["127.0.0.1", "127.255.255.255", "localhost", "LocalHost", "a.localhost"],
    "short": ["127.1", "127.0.1", "0", "10.1", "192.168.1"],
    "decimal": ["2130706433", "2852039166", "3232235777"],
    "hex": ["0x7f.1", "0x7f000001", "0X7F.0x0.0x0.0x1", "0xa9fea9fe", "0x"],
    "octal": ["0177.0.0.1", "017700000001", "0300.0250.1.1", "00.0.0.0"],
    "mixed notations": ["0x7f.0.0.01", "169.0xfe.0251.254"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "198.18.0.1"],
    "reserved": ["0.0.0.0", "192.0.0.1", "192.88.99.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"],
    "metadata": ["169.254.169.254", "168.63.129.16", "100.100.100.200", "[fd00:ec2::254]"],
    "IPv6": ["[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]"],
    "IPv4-mapped": [
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:10.0.0.1]",
    ],
    "IPv4-compatible": ["[::127.0.0.1]", "[::7f00:1]", "[::a9fe:a9fe]"],
    "NAT64": ["[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[64:ff9b::a9fe:a9fe]"],
    "6to4": ["[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:0a00:0001::]"],
    "Teredo": ["[2001::1]", "[2001:0:7f00:1::]", "[2001:0:53aa:64c:0:7bfe:80ff:fffe]"],
    "a scope": ["[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%251]"],
    "IPv6 documentation and others": [
        "[2001:db8::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "[2620:4f:8000::1]",
    ],
}
#: What is no URL of a receiver at all.
MALFORMED = {
    "user information": [
        "user@127.0.0.1",
        "user:pass@receiver.example",
        "127.0.0.1@receiver.example",
        "@a.example",
    ],
    "digits of other alphabets": ["①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "١٢٧.0.0.1"],  # noqa: RUF001 - the look-alikes are the point
    "look-alikes": ["аpple.example", "bücher.example", "ⓛocalhost"],  # noqa: RUF001 - the same
    "a trailing dot": ["receiver.example.", "127.0.0.1.", "localhost."],
    "malformed xn--": ["xn--", "xn--a.example", "xn--99999999.example", "xn--a-ecp.ru"],
    "too long": ["a" * 64 + ".example", ".".join(["a" * 60] * 5)],
    "percent signs": ["%31%32%37.0.0.1", "127%2e0.0.1", "receiver%00.example"],
    "numbers that are no address": [
        "256.1.1.1",
        "4294967296",
        "1.2.3.4.5",
        "08.0.0.1",
        "0xzz.1",
        "127.0.0.0x100",
    ],
    "ports": [
        "receiver.example:0",
        "receiver.example:99999",
        "receiver.example:abc",
        "receiver.example:80:80",
    ],
    "brackets": ["[::1", "::1", "[]", "[::1]x", "[v1.x]", "[127.0.0.1]"],
    "characters": [
        "receiver .example",
        "receiver\t.example",
        "receiver\n.example",
        "a\\@127.0.0.1",
        "a,b.example",
    ],
}
#: What a name may turn out to lead to when the webhook is sent.
RESOLVED = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1",
    "100.100.100.200", "168.63.129.16", "169.254.169.254", "192.0.0.1", "192.0.2.1", "192.31.196.1",
    "192.52.193.1", "192.88.99.1", "192.175.48.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::a9fe:a9fe", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1",
    "2002:7f00:1::", "2002:a9fe:a9fe::", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1111%eth0", "127.1",
    "2130706433", "not an address",
]  # fmt: skip
METADATA = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"]


async def delivered(running: RunningGateway, job_id: str) -> Document:
    """The last try of a job's only webhook."""
    found: list[Document] = []

    async def tried() -> bool:
        found[:] = [one for one in await running.timeline(job_id, "delivery") if one["number"]]
        return bool(found) and found[-1]["state"] != "pending"

    await running.when(tried)
    return found[-1]


async def send_to(running: RunningGateway, *hosts: str) -> list[Document]:
    """Run a job for each of these receivers; what came of their webhooks."""
    jobs = [await running.accept(PROVIDER, webhook={"url": f"https://{host}/hook"}) for host in hosts]
    return [await delivered(running, job_id) for job_id in jobs]


# --- refused with the job ---


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(
    ("hosts", "slug"),
    [
        *(pytest.param(hosts, "forbidden-target", id=row) for row, hosts in LITERALS.items()),
        *(pytest.param(hosts, "invalid-url", id=row) for row, hosts in MALFORMED.items()),
    ],
)
async def test_a_url_that_shows_where_it_leads_is_refused_with_the_job(
    running: RunningGateway, scheme: str, hosts: list[str], slug: str
) -> None:
    before = (await running.client.get("/v1/jobs")).json()["jobs"]
    for host in hosts:
        for port in ("", ":8443") if slug == "forbidden-target" else ("",):
            body = asked(webhook={"url": f"{scheme}://{host}{port}/hook"})
            reply = await running.client.post("/v1/jobs", json=body)
            assert (reply.status_code, reply.json()["type"]) == (422, f"/problems/{slug}"), host
            assert [error["pointer"] for error in reply.json()["errors"]] == ["/webhook/url"]
    assert (await running.client.get("/v1/jobs")).json()["jobs"] == before, "nothing is left to be sent"


# --- blocked when it is sent ---


async def test_a_name_that_leads_inside_is_blocked_when_it_is_sent_to(start_gateway: StartGateway) -> None:
    hosts = {f"r{number}.example": [[address]] for number, address in enumerate(RESOLVED)}
    dialer = RecordingDialer(hosts)
    running = await start_gateway(settings=ONE_TRY)
    await dialer.watch_receivers(running)
    for (host, ((address,),)), made in zip(hosts.items(), await send_to(running, *hosts), strict=True):
        assert (made["outcome"], made["status"]) == ("blocked", None), address
        assert made["detail"].startswith("ssrf-blocked: "), address
        assert host in made["detail"]
    assert sorted(dialer.looked_up) == sorted(hosts), "each was looked up, once"
    assert dialer.dialled == []
    assert await running.metric("webhook_attempts_total", outcome="blocked") == len(RESOLVED)


@pytest.mark.parametrize(
    "answers",
    [
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "2606:4700::1111", "::1"],
        [PUBLIC, "::ffff:10.0.0.1"],
        [PUBLIC, "169.254.169.254"],
        ["2606:4700::1111", "64:ff9b::7f00:1"],
    ],
)
async def test_one_bad_address_among_good_ones_blocks_them_all(
    start_gateway: StartGateway, answers: list[str]
) -> None:
    dialer = RecordingDialer({"r.example": [answers]})
    running = await start_gateway(settings=ONE_TRY)
    await dialer.watch_receivers(running)
    (made,) = await send_to(running, "r.example")
    assert made["outcome"] == "blocked"
    assert dialer.dialled == []


async def test_a_name_that_was_good_when_it_was_first_sent_to_is_looked_up_again(
    start_gateway: StartGateway,
) -> None:
    """Rebinding: the first try goes to a public address, the second would go inside."""
    clock = JumpClock()
    dialer = RecordingDialer({"r.example": [[PUBLIC], ["127.0.0.1"]]})
    running = await start_gateway(settings=ONE_TRY | {"WEBHOOKS__SCHEDULE_S": "0, 0.01"}, clock=clock)
    await dialer.watch_receivers(running)
    job_id = await running.accept(PROVIDER, webhook={"url": "https://r.example/hook"})
    last = await delivered(running, job_id)
    first, second = [one for one in await running.timeline(job_id, "delivery") if one["number"]]
    assert (first["outcome"], second["outcome"]) == ("connection", "blocked")
    assert second == last
    assert (dialer.addresses, dialer.looked_up) == ([PUBLIC], ["r.example"] * 2)


# --- what an operator opens, and what stays shut ---


async def test_metadata_stays_shut_under_a_network_around_it(start_gateway: StartGateway) -> None:
    around = "0.0.0.0/0, ::/0, 169.254.0.0/16, 100.64.0.0/10"
    hosts = {f"m{number}.example": [[address]] for number, address in enumerate(METADATA)}
    dialer = RecordingDialer(hosts | {"inside.example": [["10.0.0.1"]]})
    settings = {"WEBHOOKS__ALLOWED_NETWORKS": around, "WEBHOOKS__ALLOWED_HOSTS": ",".join(hosts)}
    running = await start_gateway(settings=ONE_TRY | settings)
    await dialer.watch_receivers(running)
    assert {made["outcome"] for made in await send_to(running, *hosts)} == {"blocked"}
    for address in METADATA:
        literal = f"[{address}]" if ":" in address else address
        reply = await running.client.post("/v1/jobs", json=asked(webhook={"url": f"https://{literal}/"}))
        assert reply.json()["type"] == "/problems/forbidden-target"
    assert dialer.dialled == []
    await send_to(running, "inside.example")
    assert dialer.addresses == ["10.0.0.1"], "what else is in them is open"


async def test_a_metadata_address_that_is_listed_by_itself_is_dialled(start_gateway: StartGateway) -> None:
    dialer = RecordingDialer({"meta.example": [["169.254.169.254"]], "next.example": [["169.254.169.253"]]})
    settings = {"WEBHOOKS__ALLOWED_NETWORKS": "169.254.169.254/32"}
    running = await start_gateway(settings=ONE_TRY | settings)
    await dialer.watch_receivers(running)
    listed, beside = await send_to(running, "meta.example", "next.example")
    assert (listed["outcome"], beside["outcome"]) == ("connection", "blocked")
    assert dialer.addresses == ["169.254.169.254"]


async def test_an_allowed_host_opens_its_own_name_and_no_other(start_gateway: StartGateway) -> None:
    inside = [["10.0.0.5"]]
    dialer = RecordingDialer({"hooks.internal": inside, "other.internal": inside, "a.hooks.internal": inside})
    running = await start_gateway(settings=ONE_TRY | {"WEBHOOKS__ALLOWED_HOSTS": "hooks.internal"})
    await dialer.watch_receivers(running)
    made = await send_to(running, "HOOKS.internal", "other.internal", "a.hooks.internal")
    assert [one["outcome"] for one in made] == ["connection", "blocked", "blocked"]
    assert dialer.addresses == ["10.0.0.5"]


# --- what a provider hands us ---


def luring(emulation: Emulation, trap: str) -> Emulation:
    """The same provider, whose every answer names other places: to ask, to cancel, to fetch from."""

    def lured(answer: HttpResponse) -> HttpResponse:
        document = json.loads(answer.body)
        lures = {
            name: f"https://{trap}/{name}"
            for name in ("status_url", "response_url", "cancel_url", "next", "webhook", "polling_url")
        }
        urls = {name: f"https://{trap}/{name}" for name in ("get", "cancel", "stream")}
        return HttpResponse(
            status=answer.status,
            headers={**answer.headers, "location": f"https://{trap}/location", "link": f"<https://{trap}/>"},
            body=msgspec.json.encode({**document, **lures, "urls": urls, **output(document)}),
        )

    def output(document: dict[str, Any]) -> dict[str, Any]:
        """Its films at the trap: the text alone is replaced, so that the form stays the provider's."""
        text = json.dumps({name: document[name] for name in ("output", "video") if document.get(name)})
        for url in {word for word in text.split('"') if word.startswith("http")}:
            text = text.replace(url, f"https://{trap}/film.mp4")
        read: dict[str, Any] = json.loads(text)
        return read

    return replace(
        emulation,
        show_created=lambda job: lured(emulation.show_created(job)),
        show_job=lambda job: lured(emulation.show_job(job)),
    )


async def test_urls_that_a_provider_hands_us_are_never_dialled(tmp_path: Any) -> None:
    """Nor is our key sent anywhere but to the configured host."""
    trap = "trap.example"
    dialer = RecordingDialer({trap: [["127.0.0.1"]]})
    simulator = Simulator(
        {name: luring(one, trap) for name, one in EMULATIONS.items()},
        clock=SystemClock(),
        run_s=0.2,
        render=False,
    )
    async with await serve_simulator(simulator) as served, open_gateway(tmp_path, served) as running:
        await dialer.watch_providers(running)
        jobs = [await running.accept(provider) for provider in PROVIDERS]
        ended = [await running.ended(job_id) for job_id in jobs]
        port = int(served.url.rpartition(":")[2])
    assert [job["status"] for job in ended] == ["succeeded"] * len(PROVIDERS)
    assert {job["outputs"][0]["url"] for job in ended} == {f"https://{trap}/film.mp4"}
    assert set(dialer.dialled) == {("127.0.0.1", port)}
    assert dialer.looked_up == []
