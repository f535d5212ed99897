"""The schema. Changing it means adding a migration; a test holds the two against each other."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UNSETTLED = "state IN ('submitting','unknown')"
LIVE = "state IN ('submitting','accepted','unknown')"
DELIVERS = "kind = 'deliver'"
MISSED = "state = 'given_up' AND endpoint_id IS NOT NULL AND overtaken = 0"

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deadline_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    Column("hold_until_ms", BigInteger),
    Column("sequence", Integer, nullable=False),
    Column("progress", Float),
    Column("idempotency_key", Text),
    Column("fingerprint", String(64), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("estimated_micro_usd", BigInteger),
    Column("sealed_webhook_secret", Text),
    Column("room", Text, nullable=False),
    # Of a success, the first of its outputs; empty where a version before 0013 stored it.
    Column("outputs_expire_at_ms", BigInteger),
    Column("traceparent", String(55)),
    Column("request", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("state", Text, nullable=False),
    CheckConstraint("status IN ('queued','running','succeeded','failed','cancelled')", name="status"),
    Index("ix_jobs_owner_id", "owner", "id"),
    Index("uq_jobs_idempotency_key_owner", "idempotency_key", "owner", unique=True),
    # What the sweep looks for is a handful among all the jobs there ever were.
    Index(
        "ix_jobs_unfinished",
        "deadline_at_ms",
        sqlite_where=text("finished_at_ms IS NULL"),
        postgresql_where=text("finished_at_ms IS NULL"),
    ),
    Index(
        "ix_jobs_held",
        "hold_until_ms",
        sqlite_where=text("hold_until_ms IS NOT NULL"),
        postgresql_where=text("hold_until_ms IS NOT NULL"),
    ),
    Index(
        "ix_jobs_outputs_expire",
        "outputs_expire_at_ms",
        sqlite_where=text("outputs_expire_at_ms IS NOT NULL"),
        postgresql_where=text("outputs_expire_at_ms IS NOT NULL"),
    ),
    # For the limit of an owner's jobs in flight.
    Index(
        "ix_jobs_unfinished_owner",
        "owner",
        sqlite_where=text("finished_at_ms IS NULL"),
        postgresql_where=text("finished_at_ms IS NULL"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job_id", String(40), nullable=False),
    Column("number", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("ref", Text),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint(
        "state IN ('submitting','accepted','refused','unknown','succeeded','failed','cancelled')",
        name="state",
    ),
    Index("uq_attempts_job_id_number", "job_id", "number", unique=True),
    Index("ix_attempts_provider_ref", "provider", "ref"),
    # Who may have made a run whose ref we lack: a handful among all the attempts there ever were.
    Index(
        "ix_attempts_unsettled",
        "provider",
        "account",
        sqlite_where=text(UNSETTLED),
        postgresql_where=text(UNSETTLED),
    ),
    # Whoever has a slot at an account, for the same reason.
    Index("ix_attempts_live", "provider", "account", sqlite_where=text(LIVE), postgresql_where=text(LIVE)),
)

adoptions = Table(
    "adoptions",
    metadata,
    # Its key is what keeps two jobs from adopting one run at the same moment.
    Column("provider", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("attempt_id", String(40), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

callback_inbox = Table(
    "callback_inbox",
    metadata,
    Column("attempt_id", String(40), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("ref", Text, nullable=False),
    Column("received_at_ms", BigInteger, nullable=False),
    # What was posted, redacted and cut; and when the question that it made due is asked, if it made any.
    Column("body", Text),
    Column("due_at_ms", BigInteger),
)

events = Table(
    "events",
    metadata,
    Column("job_id", String(40), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Text, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("subject", String(40), primary_key=True),
    # The job's id, or the delivery's for a task of kind deliver.
    Column("due_at_ms", BigInteger, nullable=False),
    Column("leased_until_ms", BigInteger),
    Column("leased_by", Text),
    Column("version", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("memo", Text, nullable=False),
    # Of submits alone: whose it is, which accounts can run it, and when its turn comes.
    Column("owner", Text),
    Column("room", Text),
    Column("turn", BigInteger),
    Column("rank", Integer),
    # Of deliveries alone: the endpoint, or host and port of a job's own receiver. Their claims go from one to
    # the next. Empty where a version before 0010 stored it.
    Column("lane", Text, nullable=False, server_default=""),
    Index(
        "ix_tasks_lane",
        "lane",
        "due_at_ms",
        sqlite_where=text(DELIVERS),
        postgresql_where=text(DELIVERS),
    ),
    Index("ix_tasks_kind_due_at_ms", "kind", "due_at_ms"),
    Index(
        "ix_tasks_room_turn",
        "room",
        "turn",
        sqlite_where=text("room IS NOT NULL"),
        postgresql_where=text("room IS NOT NULL"),
    ),
    Index(
        "ix_tasks_owner_rank",
        "owner",
        "room",
        "rank",
        "turn",
        sqlite_where=text("room IS NOT NULL"),
        postgresql_where=text("room IS NOT NULL"),
    ),
    # Submits that are claimed and not begun, and those that are begun: they are in the queue no more.
    Index(
        "ix_tasks_beginning",
        "room",
        sqlite_where=text("room IS NOT NULL AND leased_by IS NOT NULL"),
        postgresql_where=text("room IS NOT NULL AND leased_by IS NOT NULL"),
    ),
    Index(
        "ix_tasks_begun",
        "kind",
        "due_at_ms",
        sqlite_where=text("kind = 'submit' AND room IS NULL"),
        postgresql_where=text("kind = 'submit' AND room IS NULL"),
    ),
)

turns = Table(
    "turns",
    metadata,
    # The turn of the empty owner is the highest that was served, of anybody. The others' rows are there to be
    # locked by who gives turns to their jobs.
    Column("owner", Text, primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("health", Text, nullable=False),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("url", Text, nullable=False),
    # Types separated by spaces.
    Column("events", Text, nullable=False),
    Column("description", Text),
    Column("signing", String(8), nullable=False),
    # `whsec_...` or `whsk_...`, as `signing` says.
    Column("sealed_secret", Text, nullable=False),
    Column("public_key", Text),
    # Those before it sign beside it after a rotation, each to its own end; the last of the ends.
    Column("sealed_previous_secret", Text),
    Column("previous_until_ms", BigInteger),
    Column("state", String(8), nullable=False),
    Column("disabled_reason", String(16)),
    Column("disabled_at_ms", BigInteger),
    # The first failure since the last success, and how many there were since; counted to a few.
    Column("failing_since_ms", BigInteger),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failed_ms", BigInteger),
    # Raised by what makes tries that are under way say nothing of it: another URL, and an enable.
    Column("version", Integer, nullable=False, server_default="0"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    CheckConstraint("signing IN ('hmac','ed25519')", name="signing"),
    CheckConstraint("state IN ('enabled','disabled')", name="state"),
    Index("ix_webhook_endpoints_owner_id", "owner", "id"),
    Index("ix_webhook_endpoints_state", "state"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job_id", String(40), nullable=False),
    Column("owner", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("message_id", String(40), nullable=False),
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("sealed_secret", Text),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("finished_at_ms", BigInteger),
    Column("endpoint_id", String(40)),
    Column("traceparent", String(55)),
    Column("overtaken", Integer, nullable=False, server_default="0"),
    CheckConstraint("state IN ('pending','delivered','given_up')", name="state"),
    Index("uq_deliveries_job_id_sequence_endpoint_id", "job_id", "sequence", "endpoint_id", unique=True),
    # To the job's own receiver, of which there is one: nothing equals NULL in the index above.
    Index(
        "uq_deliveries_own",
        "job_id",
        "sequence",
        unique=True,
        sqlite_where=text("endpoint_id IS NULL"),
        postgresql_where=text("endpoint_id IS NULL"),
    ),
    Index(
        "ix_deliveries_endpoint_id_id",
        "endpoint_id",
        "id",
        sqlite_where=text("endpoint_id IS NOT NULL"),
        postgresql_where=text("endpoint_id IS NOT NULL"),
    ),
    # What can be recovered.
    Index(
        "ix_deliveries_missed",
        "endpoint_id",
        "id",
        sqlite_where=text(MISSED),
        postgresql_where=text(MISSED),
    ),
    Index(
        "ix_deliveries_pending",
        "created_at_ms",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("delivery_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer),
    Column("detail", Text, nullable=False),
)

exchanges = Table(
    "exchanges",
    metadata,
    # 64 bits on PostgreSQL; on SQLite only INTEGER counts as the row id.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", String(40), nullable=False),
    Column("attempt_id", String(40), nullable=False),
    Column("operation", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("status", Integer),
    Column("response", Text, nullable=False),
    Index("ix_exchanges_job_id", "job_id"),
)

run_times = Table(
    "run_times",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("simulated", Boolean, primary_key=True),
    # `routing.run_times.Learned`: of the logarithm of seconds.
    Column("n", Float, nullable=False),
    Column("mean", Float, nullable=False),
    Column("m2", Float, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

owners = Table(
    "owners",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sealed_webhook_secret", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("max_in_flight", Integer),
    Column("budget_micro_usd", BigInteger),
    Index(
        "ix_owners_budget",
        "budget_micro_usd",
        sqlite_where=text("budget_micro_usd IS NOT NULL"),
        postgresql_where=text("budget_micro_usd IS NOT NULL"),
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),
    Column("policy", String(16)),
    Column("rate", Text),
)

limits = Table(
    "limits",
    metadata,
    # How much of its rate a key has used; keys without a rate have no row.
    Column("key_id", String(40), primary_key=True),
    Column("arrival_ns", BigInteger, nullable=False),
)

spend = Table(
    "spend",
    metadata,
    # The sum of what `gateway.jobs.spend` says of each job, on the day (UTC) on which it was accepted.
    Column("owner", Text, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("jobs", BigInteger, nullable=False),
    Column("reserved_micro_usd", BigInteger, nullable=False),
    Column("charged_micro_usd", BigInteger, nullable=False),
)

secrets_canary = Table(
    "secrets_canary",
    metadata,
    Column("place", String(40), primary_key=True),
    Column("sealed", Text, nullable=False),
)
