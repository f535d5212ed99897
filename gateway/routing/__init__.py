"""Who gets a job, and when to try or ask again: decisions as pure functions that return values.

`catalogue` is what can be chosen from, `plan` chooses and says why, `failover` decides what a refusal
leads to, `pacing` when to poll next, `run_times` learns how long runs last. Loops elsewhere carry the
decisions out.
"""
