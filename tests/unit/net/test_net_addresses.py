"""The table of refused networks and an operator's exceptions to it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.net.addresses import DENIED, DialPolicy, denied_because, parse_policy, unmap

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:200::1",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
]
REFUSED = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.255.255",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700::1%eth0",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_let_through(text: str) -> None:
    assert denied_because(ip_address(text)) is None


@pytest.mark.parametrize("text", REFUSED)
def test_other_addresses_are_refused_with_a_reason(text: str) -> None:
    reason = denied_because(ip_address(text))
    assert reason is not None
    assert str(unmap(ip_address(text))).split("%", maxsplit=1)[0] in reason


def test_both_ends_of_every_denied_network_are_refused() -> None:
    for network, _ in DENIED:
        assert denied_because(network[0]) is not None
        assert denied_because(network[-1]) is not None


def test_an_allowed_network_opens_exactly_itself() -> None:
    policy = parse_policy(allowed_networks=["10.1.0.0/16", "::1"])
    assert policy.refusal(ip_address("10.1.2.3")) is None
    assert policy.refusal(ip_address("::ffff:10.1.2.3")) is None
    assert policy.refusal(ip_address("::1")) is None
    assert policy.refusal(ip_address("10.2.0.1")) is not None
    assert policy.refusal(ip_address("127.0.0.1")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "192.0.0.192",
        "fd00:42::42",
        "fd20:ce::254",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "::ffff:0:a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:5601:5601",
    ],
)
def test_a_metadata_address_needs_an_entry_of_its_own(text: str) -> None:
    address = ip_address(text)
    around = parse_policy(
        allowed_networks=["0.0.0.0/0", "::/0", "169.254.0.0/16"], allowed_hosts=["meta.test"]
    )
    assert around.refusal(address, "meta.test") is not None
    assert parse_policy(allowed_networks=[text]).refusal(address) is None


def test_an_allowed_host_opens_private_addresses_for_that_name_only() -> None:
    policy = parse_policy(allowed_hosts=["Receiver.Internal"])
    assert policy.refusal(ip_address("10.0.0.1"), "receiver.internal") is None
    assert policy.refusal(ip_address("10.0.0.1"), "other.internal") is not None
    assert policy.refusal(ip_address("10.0.0.1")) is not None


def test_a_zone_is_refused_whatever_is_allowed() -> None:
    policy = parse_policy(allowed_networks=["fe80::/10"], allowed_hosts=["x.test"])
    assert policy.refusal(ip_address("fe80::1")) is None
    assert policy.refusal(ip_address("fe80::1%eth0"), "x.test") is not None


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "10.0.0.1/8", "ten", "", "fe80::1%eth0", "::ffff:10.0.0.0/104"]
)
def test_a_bad_network_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="allowed_networks") as caught:
        parse_policy(allowed_networks=["10.0.0.0/8", entry])
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("entry", ["", "*.internal", "10.0.0.1", "127.1", "a..b", "host:80", "café.test"])
def test_a_bad_host_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts") as caught:
        parse_policy(allowed_hosts=[entry])
    assert repr(entry) in str(caught.value)


def test_the_policy_describes_itself() -> None:
    assert DialPolicy().describe() == (
        "https only; public addresses; cloud metadata only where listed address by address"
    )
    policy = parse_policy(allowed_networks=["10.0.0.0/8"], allowed_hosts=["a.internal"], allow_http=True)
    assert policy.describe() == (
        "https and http; public addresses; networks 10.0.0.0/8; hosts a.internal; "
        "cloud metadata only where listed address by address"
    )
