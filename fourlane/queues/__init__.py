"""What all workers share in Redis.

The way in of jobs: broker.py (dramatiq's door) and store.py, which has every change of a job's state; relayed.py and
taken.py for those of the outbox and of events. keys.py has all keys, lua/ what is done with them, redis/ the way there.

What jobs leave: results.py, output.py, journal.py, records.py. What all workers hold in common: guards/ (limits of
providers, budgets, places, lines), claims.py, latest.py. Schedules: schedules.py, history.py.

What operators look at and do: browse/, control/, dead_letters/, doctor/, status/.
"""
