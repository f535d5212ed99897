"""The one table of problem types (RFC 9457): each error response names a row, each row has a page.

Every error the API answers is made by `problem_body` from a `Refusal`, so that status, title and page
cannot drift apart. The `type` is relative (`/problems/<slug>`): it resolves against whatever address the
gateway is reached at.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

import msgspec
from msgspec import Struct, field

from gateway.errors import FieldProblem, Refusal

CONTENT_TYPE = "application/problem+json"


class ProblemType(Struct, frozen=True):
    """One kind of problem: its HTTP status, its title, and what its page says to whoever meets it."""

    status: int
    title: str
    help: str


#: Slug to problem type; the order is that of the checks a request goes through.
PROBLEMS: dict[str, ProblemType] = {
    # The connection and its head
    "bad-request": ProblemType(
        400,
        "The request is not valid HTTP",
        "The request breaks the rules of HTTP/1.1: for example both Content-Length and Transfer-Encoding, "
        "two lengths, or a malformed line. The connection is closed. An HTTP library does not send this; "
        "look for a proxy in between, or for hand-written request text.",
    ),
    "bad-header": ProblemType(
        400,
        "A header cannot be used",
        "A header that may stand once was sent twice, or its value cannot be read; the detail names it. "
        "Send it once, in the form the API reference gives.",
    ),
    "headers-too-large": ProblemType(
        431,
        "The request's headers are too large",
        "The headers together, or their number, exceed what the gateway reads. Send fewer or shorter "
        "ones; cookies that another service set on the same host are the usual cause.",
    ),
    "uri-too-long": ProblemType(
        414,
        "The URL is too long",
        "The path and query exceed what the gateway reads. Shorten the query; to get more results use the "
        "cursor of the previous page.",
    ),
    "request-timeout": ProblemType(
        408,
        "The request took too long to arrive",
        "The head or the body of the request was not complete in time, so nothing of it was acted on. "
        "Send it again, with the same Idempotency-Key if it had one.",
    ),
    # Who asks
    "unauthenticated": ProblemType(
        401,
        "No valid API key was given",
        "Send `Authorization: Bearer <key>` with a key of this gateway. A key that was revoked, has "
        "expired or was never issued gets this same answer. An operator makes keys with `motion-gateway "
        "keys create`.",
    ),
    "forbidden": ProblemType(
        403,
        "This key may not do that",
        "The key is valid, but does not hold the scope this route needs. Use a key that has the scope, or "
        "ask an operator for one.",
    ),
    # How often
    "quota-exceeded": ProblemType(
        429,
        "A limit of this key or its owner is reached",
        "`violated-policies` names the limit: `requests`, how often the key may ask, or `jobs-in-flight`, "
        "how many unfinished jobs its owner may have. Nothing was stored. Wait for the seconds in "
        "Retry-After, or for a job to end, and send the request again. The fields RateLimit-Policy and "
        "RateLimit show what is left, also on requests that are served.",
    ),
    # Where to
    "not-found": ProblemType(
        404,
        "There is nothing here",
        "The path is unknown, or names something that does not exist or belongs to another owner: the "
        "gateway does not tell which. Check the id and the key you use.",
    ),
    "method-not-allowed": ProblemType(
        405,
        "This path does not take that method",
        "The Allow header of the response lists the methods the path takes.",
    ),
    # The body
    "unsupported-media-type": ProblemType(
        415,
        "The body's type is not supported",
        "Bodies are JSON in UTF-8. Send `Content-Type: application/json`, with no charset or with "
        "`charset=utf-8`.",
    ),
    "unsupported-content-encoding": ProblemType(
        415,
        "The body's content encoding is not supported",
        "Bodies are read as they are; compressed ones are refused. Send no Content-Encoding, or `identity`.",
    ),
    "body-too-large": ProblemType(
        413,
        "The body is too large",
        "The body exceeds what this route reads. Media is never sent in a body: give its URL instead.",
    ),
    "malformed-body": ProblemType(
        400,
        "The body is not JSON",
        "The body is not exactly one JSON document in UTF-8 (RFC 8259): empty, cut short, followed by "
        "something else, in another encoding, or with values that JSON does not have, such as NaN. The "
        "detail says where.",
    ),
    "body-too-deep": ProblemType(
        400,
        "The body nests too deep",
        "Objects and lists stand inside each other deeper than any request of this API needs. Check the "
        "code that builds the body.",
    ),
    "duplicate-key": ProblemType(
        400,
        "A key stands twice in one object",
        "An object in the body has the same key twice, so that readers would disagree about its value. "
        "The pointer names it; send it once.",
    ),
    "validation-failed": ProblemType(
        422,
        "The request does not fit the schema",
        "The request can be read, but a value is missing, unknown, of the wrong type or out of range. "
        "Each entry of `errors` has a JSON Pointer to the place (for a query parameter `/query/<name>`) "
        "and says what is wrong there. The same request will fail again: change it.",
    ),
    # What it asks for
    "unknown-model": ProblemType(
        422,
        "No such model",
        "No enabled provider offers this model. `GET /v1/providers` lists the ones on offer.",
    ),
    "unsupported-option": ProblemType(
        422,
        "An option cannot be honoured",
        "The model and providers that remain cannot convey this option, and the gateway never drops or "
        "changes one silently. Leave it out, choose a value that the detail lists, or allow other "
        "providers; `POST /v1/plan` shows why each provider was left out.",
    ),
    "no-provider": ProblemType(
        422,
        "No provider can take this job",
        "Every enabled provider is ruled out by the job's model, options, routing or cost limit. `POST "
        "/v1/plan` with the same body shows the reason for each.",
    ),
    "invalid-url": ProblemType(
        422,
        "A URL cannot be used",
        "The URL is malformed, too long, of another scheme than https, or holds a user name. Give an "
        "absolute https URL with a host name.",
    ),
    "forbidden-target": ProblemType(
        422,
        "A URL points where it may not",
        "The URL's host is a private, local or otherwise reserved address. An operator can allow a "
        "network or host of your own in the settings `webhooks.allowed_networks`, "
        "`webhooks.allowed_hosts` and `media.allowed_networks`.",
    ),
    "insecure-callback": ProblemType(
        422,
        "A webhook URL must use https",
        "Webhooks are sent over https only, unless an operator sets `webhooks.allow_http`.",
    ),
    "idempotency-key-invalid": ProblemType(
        400,
        "The Idempotency-Key cannot be used",
        "The key is empty, longer than 255 characters, sent twice, or holds something else than visible "
        "ASCII. A UUID is a good key.",
    ),
    "idempotency-key-reused": ProblemType(
        422,
        "The Idempotency-Key belongs to another request",
        "This key was used before with another body. Repeat the first body to get its job, or send a new "
        "key for a new job.",
    ),
    "invalid-cursor": ProblemType(
        400,
        "The cursor cannot be used",
        "A cursor works only as the gateway gave it, with the same key owner and the same filters. Start "
        "again without one.",
    ),
    "spend-limit-reached": ProblemType(
        402,
        "The owner's budget for this month is used up",
        "What the owner's jobs of this calendar month (UTC) have cost, and may yet, leaves too little for "
        "this one. Nothing was stored. `GET /v1/usage` shows where it went; what is reserved for runs under "
        "way comes back when they turn out cheaper or fail unbilled. An operator sets the budget with "
        "`motion-gateway keys limit`.",
    ),
    "job-already-finished": ProblemType(
        409,
        "The job has already finished",
        "A finished job does not change any more. `GET /v1/jobs/{id}` shows how it ended.",
    ),
    "job-not-held": ProblemType(
        409,
        "The job is not held",
        "Only a job whose submission is in doubt can be resolved. It was settled meanwhile, or never was in "
        "doubt, or another attempt is in doubt than the one you named: `GET /v1/jobs/{id}/timeline` shows "
        "what happened.",
    ),
    "too-many-endpoints": ProblemType(
        409,
        "The owner has as many webhook endpoints as it may",
        "An owner may have 50. Delete one that is not used any more, or let one receiver take more events.",
    ),
    "endpoint-disabled": ProblemType(
        409,
        "Nothing is sent to this webhook endpoint",
        "It was disabled, since it answered 410, took nothing for 120 hours (with failures on three days), "
        "or on request; or it was deleted. `POST /v1/webhook-endpoints/{id}/test` shows whether it works; "
        "after `enable` send the request again.",
    ),
    "rotated-too-often": ProblemType(
        409,
        "Three earlier secrets of this webhook endpoint are in use",
        "Each earlier secret signs for 24 hours beside the newest, so that a receiver has time to change it, "
        "and messages bear four signatures at most. Rotate again when the oldest has ended.",
    ),
    "test-under-way": ProblemType(
        409,
        "This webhook endpoint is being tested",
        "An endpoint is sent one `ping` at a time. Wait until the other test is answered, at most "
        "`webhooks.timeout_s` seconds and a few, and send the request again.",
    ),
    "invalid-signature": ProblemType(
        401,
        "The call does not prove where it comes from",
        "Callbacks are taken from providers only, at the URL and with the secret that a submission was given "
        "to them. Whatever is wrong with one, this is the answer.",
    ),
    # What the gateway cannot do just now
    "provider-unreachable": ProblemType(
        503,
        "The provider cannot be asked just now",
        "A run is adopted only once the provider was seen to know it, and it did not answer. Nothing was "
        "changed. Wait for the seconds in Retry-After and send the request again.",
    ),
    "temporary-reduced-capacity": ProblemType(
        503,
        "The gateway is at its capacity",
        "Nothing was stored. Wait for the seconds in Retry-After and send the request again, with the "
        "same Idempotency-Key if it had one.",
    ),
    "storage-unavailable": ProblemType(
        503,
        "The database cannot be used just now",
        "Wait for the seconds in Retry-After and send the request again with the same Idempotency-Key: if "
        "the first one was stored after all, its job is returned.",
    ),
    "job-unreadable": ProblemType(
        503,
        "This version cannot read the job",
        "The job holds something that this version of the gateway does not know: a newer version wrote it, "
        "as happens while a deployment rolls, or it was damaged. Wait for the seconds in Retry-After and ask "
        "again; if it lasts, an operator finds the place in the logs.",
    ),
    "internal": ProblemType(
        500,
        "The gateway made an error",
        "This is a bug. `instance` is the request's id; an operator finds the cause under it in the logs. "
        "Repeating the request with the same Idempotency-Key is safe.",
    ),
}


class _Problem(Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[FieldProblem, ...] = ()
    violated_policies: tuple[str, ...] = field(name="violated-policies", default=())


_encode = msgspec.json.Encoder().encode


def problem_type(slug: str) -> ProblemType:
    """Return the row of a slug; an unknown slug is our own mistake, answered as `internal`."""
    return PROBLEMS.get(slug) or PROBLEMS["internal"]


def problem_body(refusal: Refusal, request_id: str) -> bytes:
    """Return the `application/problem+json` document of a refusal.

    Args:
        refusal: its slug names the row; its detail and errors are shown to the caller as they are, except
            under a slug that is not in the table, where the detail might not be meant for callers.
        request_id: becomes `instance`.
    """
    row = problem_type(refusal.slug)
    known = refusal.slug in PROBLEMS
    return _encode(
        _Problem(
            type="/problems/" + (refusal.slug if known else "internal"),
            title=row.title,
            status=row.status,
            detail=refusal.detail if known else row.title,
            instance=request_id,
            errors=refusal.errors,
            violated_policies=refusal.policies,
        )
    )


_STYLE = (
    "body{font:1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#1c1c1c}"
    "h1{line-height:1.25}code{font-family:ui-monospace,monospace;background:#f0f0f0;padding:.1em .3em}"
    "pre{overflow:auto;padding:1em;background:#8882}@media(prefers-color-scheme:dark){body{background:#141414;color:#e8e8e8}code{background:#2a2a2a}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: The Content-Security-Policy to send with a problem page: nothing but its own style, known by its hash.
PAGE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def problem_page(slug: str) -> str:
    """Return the HTML page that `GET /problems/{slug}` serves.

    Raises:
        Refusal: `not-found`, no such problem type.
    """
    row = PROBLEMS.get(slug)
    if row is None:
        raise Refusal("not-found", "There is no such problem type.")
    # The table marks code with backticks; escaping leaves them alone, so that odd pieces are code.
    pieces = escape(row.help).split("`")
    paragraph = "".join(f"<code>{piece}</code>" if odd % 2 else piece for odd, piece in enumerate(pieces))
    return html_page(
        row.title, f"<p><code>{escape(slug)}</code>, HTTP status {row.status}</p>\n<p>{paragraph}</p>"
    )


def html_page(title: str, main: str) -> str:
    """Return a page that loads nothing; to be sent with `PAGE_POLICY`.

    Args:
        title: text.
        main: HTML, already escaped.
    """
    heading = escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{heading}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>\n<h1>{heading}</h1>\n{main}\n</body>\n</html>\n"
    )
