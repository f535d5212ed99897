"""Who gets a job, and when to try or ask again: decisions as pure functions that return values.

`account` is how one is named, `catalogue` what can be chosen from, `conditions` what is known of it just now,
`plan` orders the candidates and says why each other is left out, `choice` picks the next one, `failover`
decides what a refusal or a failed run leads to, `routes` joins these for one job. `queue` says whose turn it
is, `health` what may be asked of an account (`breaker`, pauses, slots, pace), `gcra` how often a key may ask.
`pacing` says when to poll next, by what `run_times` learned. Loops elsewhere carry the decisions out.
"""
