"""The contract between the gateway and an adapter; the bottom of the tree and the dearest thing to change.

Read in this order:

* `motion`: what a client may ask for, in the product's words.
* `status`, `errors`: the words every provider's words are translated into, and what each decides.
* `exchange`: an HTTP request and response as plain values.
* `spec`: the half of an adapter that is data.
* `report`, `adapter`: what an adapter's functions return, and the functions themselves.
* `mapping`, `reading`: the two tools an adapter's functions use.
* `normalize`: the only place where a provider's words become ours.
* `proof`: whether a callback proves what its spec declares.
* `emulation`: the same wire from the provider's side, for the simulator.

Not here: anything that touches the world.
"""

#: Raised when a change would make an adapter written against the old contract wrong.
CONTRACT_VERSION = 1
