"""Slugs of problems that come together."""

from __future__ import annotations

AUTH = ("unauthenticated", "forbidden", "bad-header", "quota-exceeded")
STORAGE = ("storage-unavailable",)
BODY = (
    "bad-request",
    "malformed-body",
    "body-too-deep",
    "duplicate-key",
    "request-timeout",
    "body-too-large",
    "unsupported-media-type",
    "unsupported-content-encoding",
    "validation-failed",
)
PAGE = ("invalid-cursor", "validation-failed")
RECEIVER = ("invalid-url", "forbidden-target", "insecure-callback")
ONE_JOB = ("not-found", "job-unreadable")
