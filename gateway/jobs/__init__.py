"""What a job is, and every way it can change: pure, so that each rule can be read and tested by itself.

Read `job` (the parts), then `transitions` (each change as a function from a job and a fact to a Step).
`adoption` says which run at a provider is the one that a lost submission made.
`history` tells what a Step changed and replays the event log; `view` is the job as users see it;
`schedule` says when a failed try is due again.

Instants are integer milliseconds since 1970 (UTC), handed in. Nothing here reads a clock, a database or
the network. What carries a Step out is `gateway/service/record.py`.
"""
