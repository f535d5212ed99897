"""The database: what is stored, and every statement that reads or writes it.

* `tables`: the schema. `schema` migrates and refuses (Alembic, `migrations/`).
* `store`: opens a database as the settings name it.
* `engine`: what the rest of the program needs of a database. `sqlite` is one.
* `batching`: concurrent calls become one operation.
* `jobs`, `attempts`, `events`, `tasks`, `deliveries`, `exchanges`, `callbacks`, `keys`: the statements, by
  aggregate; sync functions of a SQLAlchemy `Connection`, the same for every engine.
* `delivery_tasks`: tasks to deliver, lane by lane. `queue`: those to submit, by whose turn it is.
* `watched`: how watched jobs stand, and their logs.
* `readable`: jobs with their attempts, without those that this version cannot read.
* `sealing`: secrets that must be read back, encrypted at rest. `canary`: whether the key is still the same.

Money is integer micro-USD, instants are epoch milliseconds, documents msgspec JSON in text. A transaction
is never held across a call to the outside. What belongs together is decided in `gateway/service`.
"""
