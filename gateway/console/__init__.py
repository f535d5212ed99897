"""The operator's page at /console: rendered here, served by the gateway itself, from nowhere else.

* `routes` puts it together; `jobs`, `held`, `providers`, `endpoints`: its pages, one subject a file.
* `entrance`: who may come in, and log-in. `session`: what a browser bears instead of the key. `origin`:
  whether a request comes from one of our own pages. Read these three before changing what a form may do.
* `desk`: what the pages work with, and what all of them show.
* `pages`: templates made answers, with the headers that every answer has. `forms`: what browsers send.
* `words`: how times, money and documents are shown.
* `templates/` escape whatever they are given; `static/` is all a page loads, but for a job's own film.

Everything on these pages was said by clients, providers and receivers, and may be hostile. What can be done
here, the API can do, too: through the same services, with nothing of their rules repeated here.
"""
