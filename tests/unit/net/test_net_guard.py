"""The guard in the dialler: what is resolved is checked, and only what was checked is dialled."""

from __future__ import annotations

import httpx
import pytest
from guarded_network import BOTH_LOOPS, LOOPBACK, Network, post
from net_servers import OK, answering, raw_server

from gateway.net import DialPolicy, DialRefused, parse_policy
from gateway.net.lookups import SystemLookup

pytestmark = BOTH_LOOPS

CLOSED_HTTP = DialPolicy(allow_http=True)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "a.localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "168.63.129.16",
        "100.100.100.200",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "name.test",
        "name.test.",
        "1.2.3.4.5",
        "134744072",
        "%31%32%37.0.0.1",
        "①②⑦.⓪.⓪.①",
        "user@127.0.0.1",
        "xn--a",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_hostile_url_is_dialled(scheme: str, host: str) -> None:
    network = Network(["127.0.0.1"])
    async with network.client(CLOSED_HTTP) as client:
        with pytest.raises((DialRefused, httpx.InvalidURL, UnicodeError)) as caught:  # some cannot be read
            await post(client, f"{scheme}://{host}/")
    assert str(caught.value)
    assert network.dialled == []


async def test_plain_http_is_refused_when_the_policy_says_so() -> None:
    network = Network(["127.0.0.1"])
    async with network.client(parse_policy(allowed_networks=["127.0.0.1"])) as client:
        with pytest.raises(DialRefused, match="plain http"):
            await post(client, "http://name.test/")
    assert network.looked_up == network.dialled == []


async def test_an_allowed_network_is_dialled_by_name_and_by_address() -> None:
    network = Network(["127.0.0.1"])
    async with raw_server(answering(OK)) as server, network.client(LOOPBACK) as client:
        for host in ("127.0.0.1", "name.test"):
            response = await post(client, f"http://{host}:{server.port}/")
            assert response.status == 200
    assert network.dialled == ["127.0.0.1", "127.0.0.1"]
    assert network.looked_up == ["name.test"]


async def test_an_allowed_host_is_dialled_at_its_private_address_and_keeps_its_name() -> None:
    network = Network(["127.0.0.1"])
    policy = parse_policy(allowed_hosts=["name.test"], allow_http=True)
    async with raw_server(answering(OK)) as server, network.client(policy) as client:
        await post(client, f"http://NAME.test:{server.port}/")
        assert f"Host: name.test:{server.port}\r\n".encode() in server.requests[0]
        with pytest.raises(DialRefused):
            await post(client, f"http://other.test:{server.port}/")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1", "10.0.0.1"],
        ["10.0.0.1", "127.0.0.1"],
        ["127.0.0.1", "::ffff:10.0.0.1"],
        ["127.0.0.1", "fe80::1%eth0"],
        ["127.0.0.1", "169.254.169.254"],
        ["127.0.0.1", "not an address"],
    ],
)
async def test_one_refused_answer_refuses_all(answers: list[str]) -> None:
    network = Network(answers)
    async with network.client(LOOPBACK) as client:
        with pytest.raises(DialRefused, match=r"name\.test"):
            await post(client, "http://name.test/")
    assert network.dialled == []


async def test_a_name_that_changes_its_answer_is_checked_again() -> None:
    network = Network(["127.0.0.1"], ["10.0.0.1"])
    async with raw_server(answering(OK)) as server, network.client(LOOPBACK) as client:
        url = f"http://name.test:{server.port}/"
        assert (await post(client, url)).status == 200
        with pytest.raises(DialRefused, match=r"10\.0\.0\.1 is private"):
            await post(client, url)
    assert network.dialled == ["127.0.0.1"]
    assert network.looked_up == ["name.test", "name.test"]


async def test_what_is_dialled_is_what_one_lookup_answered() -> None:
    network = Network(["8.8.8.8", "2606:4700::1111"], ["10.0.0.1"])
    async with network.client(DialPolicy()) as client:
        with pytest.raises(httpx.ConnectError):
            await post(client, "https://name.test/")
    assert network.dialled == ["8.8.8.8", "2606:4700::1111"]
    assert network.looked_up == ["name.test"]


async def test_no_answer_is_no_connection() -> None:
    network = Network([])
    async with network.client(LOOPBACK) as client:
        with pytest.raises(httpx.ConnectError, match="no address"):
            await post(client, "http://name.test/")
    assert network.dialled == []


async def test_the_operating_systems_lookup_answers_with_addresses() -> None:
    lookup = SystemLookup()
    try:
        assert await lookup("127.0.0.1", 80, "") == ["127.0.0.1"]
    finally:
        lookup.close()
