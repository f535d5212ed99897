"""Which addresses may be dialled, and the transport that dials only what it checked.

Here: judging a URL by its form (`urls`, `hosts`), the table of refused networks and an operator's exceptions
(`addresses`), checking what a name resolves to (`resolver`), sending (`transport` over `pool`, with aiohttp's
`connector` and `protocol` kept within limits), and what came of it (`dial`, `failures`, `body`).

Not here: what is sent to whom, retries, and what an answer means (`gateway.upstream`, `gateway.webhooks`).

Read `transport` first, then `dial`: whether a paid request was made hangs on `Dial.connected`.
"""

from __future__ import annotations

from gateway.net.addresses import DialPolicy, parse_policy
from gateway.net.body import read_prefix, read_whole
from gateway.net.dial import BEFORE_SEND, DEADLINE_S, DIAL, FRESH, BeforeSend, Dial
from gateway.net.failures import DialRefused, EncodingRefused, LookupsBusy, RequestWithheld, ResponseTooLarge
from gateway.net.transport import GuardedTransport
from gateway.net.urls import UrlRefused, check_url

__all__ = [
    "BEFORE_SEND",
    "DEADLINE_S",
    "DIAL",
    "FRESH",
    "BeforeSend",
    "Dial",
    "DialPolicy",
    "DialRefused",
    "EncodingRefused",
    "GuardedTransport",
    "LookupsBusy",
    "RequestWithheld",
    "ResponseTooLarge",
    "UrlRefused",
    "check_url",
    "parse_policy",
    "read_prefix",
    "read_whole",
]
