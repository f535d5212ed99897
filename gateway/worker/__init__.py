"""What happens to a job after it was accepted.

`loop` claims due tasks and carries them out under leases; read it first. The steps, one file each: `submit`
(the paid call; read its docstring before touching anything), `poll`, `reconcile` (looking for a submission
whose outcome is unknown), `cancel`, `deliver`, `sweep`. `tools` is what every step is handed, and how it
writes its result.
Every step assumes that the process may die at any of its awaits.
"""
