"""Whose certificates are believed."""

from __future__ import annotations

import ssl

import httpx


def verified_ssl_context() -> ssl.SSLContext:
    """TLS against certifi's authorities, or against those that SSL_CERT_FILE or SSL_CERT_DIR name."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
