"""URLs judged by their form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.net.addresses import DialPolicy, parse_policy
from gateway.net.urls import Slug, UrlRefused, check_url

CLOSED = DialPolicy()

INVALID = [
    "",
    "x",
    "//h.test/x",
    "ftp://h.test/x",
    "file:///etc/passwd",
    "gopher://h.test/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "https:h.test",
    "https:/h.test",
    "https://",
    "https:///x",
    "https://[::1",
    "https://::1/",
    "https://[::1]x/",
    "https://[]/",
    "https://[v1.x]/",
    "https://h.test/a b",
    " https://h.test/",
    "https://h.test/\n",
    "https://h.test/\tx",
    "https://h.te\x00st/",
    "https://h.test/\x00",
    "https://h.test/\x7f",
    "https://h.test/\u202e",
    "https://h.test/\u00a0",
    "https://h.test/\ud800",
    "https://h.test\\@10.0.0.1/",
    "https://h.test:0/",
    "https://h.test:99999/",
    "https://h.test:abc/",
    "https://h.test:/",
    "https://h.test:-1/",
    "https://h.test:80:80/",
    "https://h.test:８０/",  # noqa: RUF001 - the look-alikes are the point
    "https://user@h.test/",
    "https://user:pw@h.test/",
    "https://127.0.0.1@h.test/",
    "https://@h.test/",
    "https://h.test./",
    "https://127.0.0.1./",
    "https://.h.test/",
    "https://a..test/",
    "https://-a.test/",
    "https://a-.test/",
    "https://a%2etest/",
    "https://%31%32%37.0.0.1/",
    "https://a,b.test/",
    "https://" + "a" * 64 + ".test/",
    "https://" + "a.b" * 80 + "long.tail.test/",
    "https://xn--/",
    "https://xn--a.test/",
    "https://xn--99999999.test/",
    "https://①②⑦.⓪.⓪.①/",
    "https://１２７.0.0.1/",  # noqa: RUF001 - the look-alikes are the point
    "https://аpple.test/",  # noqa: RUF001 - the look-alikes are the point
    "https://bücher.test/",
    "https://127。0。0。1/",
    "https://1.2.3.4.5/",
    "https://256.1.1.1/",
    "https://1.1.1.256/",
    "https://4294967296/",
    "https://09.0.0.1/",
    "https://foo.1/",
    "https://0xzz.1/",
    "https://8.8.8.8/",
    "https://134744072/",
    "https://[2606:4700::1111]/",
    "https://[::ffff:8.8.8.8]/",
    "https://h.test/" + "a" * 2048,
    "https://h.test/" + "é" * 500,
]
FORBIDDEN = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "a.localhost",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.0x1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0x",
    "00.0.0.0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fe80::1]",
    "169.254.169.254",
    "0xa9fea9fe",
    "[fd00:ec2::254]",
    "168.63.129.16",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
]


def refusal(url: str, policy: DialPolicy = CLOSED, *, ip_literals: bool = False) -> Slug:
    with pytest.raises(UrlRefused) as caught:
        check_url(url, policy, ip_literals=ip_literals)
    assert caught.value.message
    return caught.value.slug


@pytest.mark.parametrize("url", INVALID)
def test_malformed_urls_are_invalid(url: str) -> None:
    assert refusal(url) == "invalid-url"


@pytest.mark.parametrize("ip_literals", [True, False])
@pytest.mark.parametrize("host", FORBIDDEN)
def test_hosts_that_must_not_be_dialled_are_forbidden(host: str, *, ip_literals: bool) -> None:
    assert refusal(f"https://{host}/x", ip_literals=ip_literals) == "forbidden-target"
    assert refusal(f"https://{host}:8443", ip_literals=ip_literals) == "forbidden-target"


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://h.test", "https://h.test/"),
        ("HTTPS://H.Test:443/A?B=c", "https://h.test/A?B=c"),
        ("https://h.test:8443/x#fragment", "https://h.test:8443/x"),
        ("https://h.test?q", "https://h.test/?q"),
        ("https://h.test/?next=https://other.test/@x", "https://h.test/?next=https://other.test/@x"),
        ("https://h.test/%7Ea/é?x=\u540d", "https://h.test/%7Ea/%C3%A9?x=%E5%90%8D"),
        ("https://my_service.internal/", "https://my_service.internal/"),
        ("https://xn--bcher-kva.test/", "https://xn--bcher-kva.test/"),
        ("https://" + "a" * 63 + ".test/", "https://" + "a" * 63 + ".test/"),
    ],
)
def test_good_urls_come_back_in_normal_form(url: str, normal: str) -> None:
    assert check_url(url, CLOSED, ip_literals=False) == normal
    assert check_url(normal, CLOSED, ip_literals=False) == normal


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://134744072/", "https://8.8.8.8/"),
        ("https://[2606:4700:0::1111]:444/", "https://[2606:4700::1111]:444/"),
        ("https://[::ffff:8.8.8.8]/", "https://8.8.8.8/"),
    ],
)
def test_public_addresses_pass_where_literals_may_stand(url: str, normal: str) -> None:
    assert check_url(url, CLOSED, ip_literals=True) == normal


def test_an_allowed_network_lets_its_literals_through() -> None:
    policy = parse_policy(allowed_networks=["127.0.0.0/8", "10.0.0.0/8"], allow_http=True)
    assert check_url("http://127.1:9/x", policy, ip_literals=False) == "http://127.0.0.1:9/x"
    assert check_url("http://10.1.2.3/", policy, ip_literals=False) == "http://10.1.2.3/"
    assert check_url("http://localhost:80/", policy, ip_literals=False) == "http://localhost/"
    assert refusal("https://192.168.0.1/", policy) == "forbidden-target"
    assert refusal("https://8.8.8.8/", policy) == "invalid-url"


def test_an_allowed_host_may_be_localhost() -> None:
    policy = parse_policy(allowed_hosts=["localhost"])
    assert check_url("https://localhost/", policy, ip_literals=False) == "https://localhost/"
    assert refusal("https://a.localhost/", policy) == "forbidden-target"


def test_plain_http_needs_the_policy_and_has_a_slug_of_the_callers() -> None:
    assert refusal("http://h.test/") == "insecure-callback"
    assert refusal("http://127.0.0.1/") == "forbidden-target"
    with pytest.raises(UrlRefused) as caught:
        check_url("http://h.test/", CLOSED, ip_literals=False, http_slug="invalid-url")
    assert caught.value.slug == "invalid-url"
    assert check_url("http://h.test:80/", DialPolicy(allow_http=True), ip_literals=False) == "http://h.test/"


def test_no_message_repeats_what_may_be_secret() -> None:
    for url in ("https://u:hunter2@h.test/", "https://10.0.0.1/hunter2?hunter2", "https://h.test:0/hunter2"):
        with pytest.raises(UrlRefused) as caught:
            check_url(url, CLOSED, ip_literals=False)
        assert "hunter2" not in str(caught.value)


@settings(deadline=None, database=None)
@given(st.text() | st.text("0x1.:[]@%/127fa", max_size=20).map("https://".__add__))
def test_any_text_is_judged_and_a_judged_url_stays_the_same(url: str) -> None:
    try:
        checked = check_url(url, CLOSED, ip_literals=True)
    except UrlRefused:
        return
    assert check_url(checked, CLOSED, ip_literals=True) == checked
