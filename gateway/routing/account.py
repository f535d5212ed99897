"""How an account at a provider is named wherever it is no more than a name."""

from __future__ import annotations

Account = tuple[str, str]
"""(provider, account)."""
