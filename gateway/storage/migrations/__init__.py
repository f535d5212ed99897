"""Alembic migrations, one file a step under `versions/`; `gateway/storage/schema.py` runs them.

They expand and contract: a release only adds what the one before it can live with, so that both may run
side by side during an upgrade.
"""
