"""The services of Tallyclerk on one machine, without containers: `python -m stack up`.

One entry per service (`stack/services/`), one supervisor that starts them in order, keeps nothing running of its own
and knows its processes again by pid and start time.
"""
