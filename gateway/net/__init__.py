"""What goes out: over a pool to hosts that the operator configured, through the guard to everybody else's.

Pool: `transport` for httpx over `pool`, with aiohttp's `connector` and `protocol` kept within limits, and
`body`. What came of it is in `dial` and `failures`.

Guard: `guarded` posts on a connection of its own (`exchange`) to a URL that was judged by its form (`target`)
and whose addresses were checked (`addresses`). What is handed in is judged before, too (`urls`, `hosts`).

Both look names up by `resolver` and `lookups`, believe the certificates that `tls` names, share `limits`, and
refuse header `fields` alike.

Not here: what is sent to whom, retries, and what an answer means (`gateway.upstream`, `gateway.webhooks`).

Read `transport` first, then `dial`: whether a paid request was made hangs on `Dial.connected`.
"""

from __future__ import annotations

from gateway.net.addresses import DialPolicy, parse_policy
from gateway.net.body import read_whole
from gateway.net.dial import BEFORE_SEND, DEADLINE_S, DIAL, FRESH, BeforeSend, Dial
from gateway.net.failures import DialRefused, EncodingRefused, LookupsBusy, RequestWithheld, ResponseTooLarge
from gateway.net.guarded import Answer, BeforeDial, GuardedClient
from gateway.net.transport import PooledTransport
from gateway.net.urls import UrlRefused, check_url

__all__ = [
    "BEFORE_SEND",
    "DEADLINE_S",
    "DIAL",
    "FRESH",
    "Answer",
    "BeforeDial",
    "BeforeSend",
    "Dial",
    "DialPolicy",
    "DialRefused",
    "EncodingRefused",
    "GuardedClient",
    "LookupsBusy",
    "PooledTransport",
    "RequestWithheld",
    "ResponseTooLarge",
    "UrlRefused",
    "check_url",
    "parse_policy",
    "read_whole",
]
