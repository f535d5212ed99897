"""Takes secrets out of whatever is about to be logged, stored or shown.

Three nets, since each has holes: the secrets that were loaded, letter by letter; forms that only secrets have
(`sk-...`, `Bearer ...`, signed URLs); names of fields that hold them. Everything runs in linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Final, cast
from urllib.parse import quote

MASK: Final = "********"
BODY_CHARACTERS: Final = 4096
"""Most characters of an exchange's body that are kept."""
TEXT_CHARACTERS: Final = 32_768
"""Most characters of one logged text."""
_DEPTH: Final = 12
_ENTRIES: Final = 1000
_SHORT: Final = 8
"""Secrets shorter than this are masked as whole words only; anywhere, they would riddle every text."""

#: How names of fields and headers end whose values are masked; compared in lower case, without `-` and `_`.
NAME_ENDINGS: Final = (
    "apikey", "apisecret", "authorization", "cookie", "credential", "credentials", "jwt", "passwd",
    "password", "privatekey", "secret", "secretkey", "signature", "signingkey", "token",
)  # fmt: skip

# The same as they stand in JSON text.
_NAMES: Final = (
    r"[\w.-]{0,40}?(?:(?:api|private|secret|signing)[_-]?key|api[_-]?secret|authorization|cookie|credentials?"
    r"|jwt|passwd|password|secret|signature|token)"
)
_FORMS: Final = re.compile(
    r"""
      (?P<url> (?:https?|wss?|ftp|postgres(?:ql)?(?:\+[a-z]+)?) :(?:\\?/){2} [^\s"'<>]+ )
    | (?P<scheme> \bBearer\s+ ) [^\s"',;]{8,}
    | (?P<basic> \bBasic\s+ ) [A-Za-z0-9+/]{6,}={1,2}
    | \b[spr]k-[A-Za-z0-9_-]{8,}
    | \bwhs(?:ec|k)_[A-Za-z0-9+/=_-]+
    | \bmgk_[A-Za-z0-9_-]+
      # 32 digits exactly are one of our own identifiers (gateway/ids.py), which are no secrets.
    | \bkey_(?![0-9a-f]{32}(?![0-9a-z]))[0-9a-f]{8,}
    | (?P<pair> (?: X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token) | \bPolicy | (?<![a-z])sig
        | Signature | Key-Pair-Id | token | _jwt | api[_-]?key | secret | password ) = ) [^\s&"'<>;,]+
    | (?P<field> " """
    + _NAMES
    + r""" "\s*:\s* ) (?: "(?:[^"\\]|\\[\s\S])* (?:"|\\?\Z) | [^\s",{}\[\]]+ )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Every form has one of these in it, in lower case. Most texts have none, and to look for these is a hundred
# times faster than to look for the forms.
_HINTS: Final = (
    "http", "ws:", "wss:", "ftp:", "postgres", "bearer", "basic", "sk-", "rk-", "pk-", "whs", "mgk_", "key",
    "signature", "credential", "policy=", "sig=", "token", "jwt", "secret", "passw", "authorization",
    "cookie",
)  # fmt: skip
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2})(?:[^/?#]*@)?([^?#]*)")


_Collection = Mapping[object, object] | Collection[object]


def redact_url(url: str) -> str:
    """Return a URL without user name, password, query and fragment."""
    found = _URL.match(url)
    if found is not None:
        return found[1] + found[2]
    return re.split(r"[?#]", url, maxsplit=1)[0].rpartition("@")[2]


def redact(text: str) -> str:
    """Return a text with everything masked that has a secret's form; URLs lose their queries."""
    lower = text.lower()
    return _FORMS.sub(_masked, text) if any(hint in lower for hint in _HINTS) else text


def redact_exchange_body(body: bytes, take_out: Callable[[str], str] = redact) -> str:
    """Return the beginning of a request's or response's body, as text that may be stored and shown.

    Args:
        body: as it went over the wire, of any size.
        take_out: takes secrets out of a text; a `Redactor`'s knows those that were loaded.

    Returns:
        At most 4,096 characters; if there was more, a last line says how many bytes there were.
    """
    # Looked at in twice the length: a secret across the cut would not be recognized by its first half.
    window = body[: 8 * BODY_CHARACTERS].decode("utf-8", "replace")[: 2 * BODY_CHARACTERS]
    # NUL is the one character that a text column of PostgreSQL refuses.
    text = take_out(window.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    whole = len(text) <= BODY_CHARACTERS and len(window.encode("utf-8", "replace")) >= len(body)
    return text if whole else f"{text[:BODY_CHARACTERS]}\n[cut; {len(body)} bytes in all]"


class Redactor:
    """Masks the loaded secrets, and all that looks or is named like one.

    Args:
        secrets: the texts of all secrets that were loaded.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
        ordered = sorted(spellings, key=len, reverse=True)
        parts = [re.escape(text) if len(text) >= _SHORT else rf"\b{re.escape(text)}\b" for text in ordered]
        self._exact = re.compile("|".join(parts)) if parts else None
        self._names: dict[str, tuple[str, bool]] = {}

    def text(self, text: str) -> str:
        """Return a text without secrets, at most 32,768 characters of it."""
        exact = self._exact
        if exact is not None:
            text = exact.sub(MASK, text)
        text = redact(text)
        return text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]}[cut]"

    def value(self, value: object, depth: int = 0) -> object:
        """Return a plain value (text, number, bool, None, list, dict) without secrets.

        Anything else becomes its `repr`; what is nested deeper than 12 levels, or beyond the thousandth
        entry of a collection, is left out.
        """
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._collection(cast("_Collection", value), depth)
        return self.text(_shown(value))

    def _collection(self, value: _Collection, depth: int) -> object:
        if depth >= _DEPTH:
            return "[too deep]"
        if isinstance(value, Mapping):
            return self.fields(cast("Mapping[object, object]", value), depth + 1)
        return [self.value(item, depth + 1) for item in islice(value, _ENTRIES)]

    def fields(self, fields: Mapping[object, object], depth: int = 0) -> dict[str, object]:
        """Return a mapping without secrets: values of fields named like one are masked whole."""
        out: dict[str, object] = {}
        for key, value in islice(fields.items(), _ENTRIES):
            name, secret = self._name(key if isinstance(key, str) else _shown(key))
            masked = secret and value is not None
            out[name] = MASK if masked else self.value(value, depth)
        return out

    def _name(self, name: str) -> tuple[str, bool]:
        """Return a field's name as it may be shown, and whether its value may not."""
        known = self._names.get(name)
        if known is None:
            secret = name.lower().replace("-", "").replace("_", "").endswith(NAME_ENDINGS)
            known = self.text(name), secret
            if len(self._names) < _ENTRIES:  # names may come from outside
                self._names[name] = known
        return known


def _spellings(secret: str) -> Iterable[str]:
    """Return the ways a secret is written: as it is, percent-encoded, and inside JSON."""
    return {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1]}


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value[: 4 * TEXT_CHARACTERS].decode("utf-8", "replace")
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  (whatever a foreign repr raises, the line is still wanted)
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"


def _masked(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "url":
        return redact_url(found[0])
    if kind == "field":
        return f'{found["field"]}"{MASK}"'
    return f"{found[kind]}{MASK}" if kind else MASK
