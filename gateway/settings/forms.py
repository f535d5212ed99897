"""The forms of texts that are more than texts: URLs, secrets, names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from gateway.settings.hosts import host, host_names, is_address, is_loopback, is_name, networks
from gateway.settings.rates import parse_rate

_VISIBLE: Final = re.compile(r"[!-~]+")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACEHOLDERS: Final = frozenset(
    {"changeme", "change-me", "change_me", "your-key", "your-key-here", "your-api-key", "your_api_key"}
)


def database(url: str) -> str:
    """Check a database URL.

    Raises:
        ValueError: neither a SQLite file nor a PostgreSQL server; the text never holds the URL, which may
            hold a password.
    """
    scheme, _, rest = url.partition(":")
    if scheme in {"postgresql", "postgres"}:
        return _server(url)
    path = rest.removeprefix("///")
    if scheme != "sqlite" or path == rest or not path or path.endswith("/") or path == ":memory:":
        raise ValueError(
            "must be sqlite:///PATH, a file (jobs must outlive the process), or"
            " postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    if any(character in path for character in "?#\0"):
        raise ValueError("must be sqlite:///PATH, without ?, # or control characters")
    return url


def _server(url: str) -> str:
    right = "write postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE, special characters percent-encoded"
    try:
        parts = urlsplit(url)
        named = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(f"must be a URL; {right}") from None
    if not named or _VISIBLE.fullmatch(url) is None or parts.fragment:
        raise ValueError(f"must be a URL without fragment, spaces or control characters; {right}")
    if parts.path in {"", "/"} or "/" in parts.path[1:]:
        raise ValueError(f"must name a database; {right}")
    return url


def database_shown(url: str) -> str:
    """Return a database URL without its password, for people."""
    if url.startswith("sqlite:"):
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    # A query may hold a password, too; of what it may hold, people need the host of a socket.
    query = "&".join(part for part in parts.query.split("&") if part.startswith("host="))
    return f"postgresql://{name}{'@' if name else ''}{host}{parts.path}{'?' if query else ''}{query}"


def database_secrets(url: str) -> tuple[str, ...]:
    """Return the passwords in a database URL, as written and decoded."""
    if url.startswith("sqlite:"):
        return ()
    parts = urlsplit(url)
    found = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    found += [value for key, value in parse_qsl(parts.query) if key in {"password", "sslpassword"}]
    return tuple({*found, *map(unquote, found)} - {""})


def base_url(text: str) -> str:
    """Check a provider's base URL, and return it without a slash at the end.

    Raises:
        ValueError: not https, nor http on loopback; or with userinfo, query, fragment or a bad port.
    """
    right = "give https://HOST[:PORT][/PATH], or http:// on a loopback host"
    if _VISIBLE.fullmatch(text) is None or any(character in text for character in "\\?#"):
        raise ValueError(f"must be a URL without query, fragment, spaces or control characters; {right}")
    parts = _split(text)
    if parts is None:
        raise ValueError(f"must be a URL; {right}")
    if "@" in parts.netloc:
        raise ValueError(f"must not hold a user name or password; {right}")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"plain http is accepted on a loopback host only; {right}")
    return text.rstrip("/")


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        return None
    if parts.netloc.endswith(":"):
        return None
    address = parts.hostname
    if parts.netloc.rpartition("@")[2].startswith("["):
        return parts if "%" not in address and is_address(address) else None
    return parts if is_address(address) or is_name(address) else None


def secret_text(text: str, *, header: bool) -> str:
    """Check a secret.

    Args:
        text: what was given.
        header: whether it is sent in a header, which takes visible ASCII only.

    Raises:
        ValueError: empty, a placeholder, or of another form; the text never holds the secret.
    """
    if not text.strip():
        raise ValueError("is empty; give the secret, or leave it out altogether")
    if text.lower() in _PLACEHOLDERS or (text.startswith("<") and text.endswith(">")):
        raise ValueError("is a placeholder; give the real secret")
    if text != text.strip() or not text.isprintable():
        raise ValueError("must be one line, without blanks at its ends or control characters")
    if header and _VISIBLE.fullmatch(text) is None:
        raise ValueError("must be visible ASCII characters without blanks, since it is sent in a header")
    return text


def account_name(text: object) -> str:
    """Check the name of an account.

    Raises:
        ValueError: not 1 to 64 letters, digits, `-` and `_`.
    """
    if not isinstance(text, str) or _ACCOUNT.fullmatch(text) is None:
        raise ValueError("must be 1 to 64 letters, digits, - and _")
    return text


#: Keys whose text must be of a form, by path.
def rate(text: str) -> str:
    """Check a rate.

    Raises:
        ValueError: it is none.
    """
    return str(parse_rate(text))


FORMS: Final[Mapping[str, Callable[[Any], object]]] = {
    "database": database,
    "server.host": host,
    "server.public_url": base_url,
    "limits.rate": rate,
    "webhooks.allowed_networks": networks,
    "webhooks.allowed_hosts": host_names,
    "media.allowed_networks": networks,
}
