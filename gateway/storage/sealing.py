"""Secrets that must be read back to sign with, encrypted at rest (AES-256-GCM, 96-bit random nonce)."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import SettingsError

_VERSION = "v1."
_NONCE_BYTES = 12


class Sealer:
    """Seals and opens short texts.

    Args:
        key: any secret text; 256 bits are derived from it.
    """

    def __init__(self, key: str) -> None:
        self._aead = AESGCM(hashlib.sha256(b"motion-gateway sealing\0" + key.encode()).digest())

    def seal(self, text: str, *, bound_to: str) -> str:
        """Encrypt `text`, so that it opens only in the place it is bound to (a job's or owner's id)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, text.encode(), bound_to.encode())
        return _VERSION + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *, bound_to: str) -> str:
        """Decrypt what `seal` made.

        Raises:
            SettingsError: it was sealed with another secret_key, or for another place.
        """
        try:
            raw = base64.b64decode(sealed.removeprefix(_VERSION))
            return self._aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to.encode()).decode()
        except (InvalidTag, ValueError) as error:  # ValueError: the stored text itself is damaged
            reason = "a stored secret cannot be opened: secret_key is not the one it was sealed with"
            raise SettingsError(reason) from error


def key_beside(database: Path) -> str:
    """Return the key in `key_file`'s file, making it (mode 0600) when it is missing.

    Raises:
        SettingsError: the file is empty, or can be neither read nor made.
    """
    path = key_file(database)
    try:
        return _read_key(path) if path.exists() else _make_key(path)
    except OSError as error:
        reason = f"{path} cannot be read or made ({error.strerror}); mend its permissions, or set secret_key"
        raise SettingsError(reason) from error


def key_file(database: Path) -> Path:
    """Return where the key of a database file lies: beside the file itself, by whatever name it is opened."""
    real = database.resolve()
    return real.with_name(real.name + ".key")


def _make_key(path: Path) -> str:
    key = secrets.token_hex(32)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)  # another process was quicker
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def _read_key(path: Path) -> str:
    key = path.read_text().strip()
    if not key:
        raise SettingsError(f"{path} is empty; restore it from a backup, or set secret_key")
    return key
