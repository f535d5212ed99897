"""What may be asked of the gateway, one transaction each, whoever asks: a client, an operator, the worker.

* `record`: the one place where a transition is carried out: state, event, follow-up task and frozen
  webhook bodies commit together. Read this first. `messages`: those bodies.
* `intake`: accepting a job. `jobs`: reading, listing, cancelling, the timeline.
* `keys`: API keys and their owners. `throttle`, `quotas`, `usage`: what they may ask for, and what it cost.
* `plans`: where a job would go. `health`: what accounts can take just now. `run_times`: how long runs last.
* `endpoints`: where owners are told. `deliveries`: what they were told. `recovery`: telling what they missed.
  `pings`: a try on request.
* `leases`: how a worker holds what it claimed. `dispatch`: whose turn it is among the jobs. `outbox`:
  deliveries claimed lane by lane, and what came of each try. `census`: what is under way in the whole store.
* `adoption`: what a look for a lost submission found, settled. `holds`: an operator's word on a held job.
  `callbacks`: what providers tell unasked, kept as hints; `inflow`: how many of them are taken.
  `tries`: how attempts fared lately.
* `watch`: those who wait for jobs or watch them, woken by one look for all. `story`: a job's log, told.
* `announce`: metrics, logs and wake-ups after each commit. `wakeup`: those who sleep until something is due.

Nothing here talks to a provider or a receiver, but for `holds`: it asks whether a run is there.
"""
