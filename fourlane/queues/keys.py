"""The catalogue of keys: nothing else builds one, or reads one.

=============  ========  =====================================================  ==============================
key            type      content                                                 bound by
=============  ========  =====================================================  ==============================
jobs           hash      id → body ("" when cancelled while ready); "!" →        the job's life
                         pauses and limits
ready:T        list      entries that may run now, the next one first            the job's life
delayed        zset      entries by the time at which they are due; "~" and a    the job's life
                         closed line, by the time at which it opens
workers        zset      lease names by the time at which they count as dead     each worker; reclaim
wake:T, news,  zset      tokens, each of which ends an idle worker's wait        8 members
watch
leased:NAME    set       entries that this worker holds                          the worker; reclaim
records        hash      id → attempts and errors                                the job's life
crashes        hash      id → workers that died running it, "id|q" → that        the job's life
                         fell silent holding it, "id|t" → that died in a trial
                         of it alone
reasons        hash      id → why it is a dead letter                            dead letters
dead:T         zset      ids by the time of their death                          age and number (settings)
slots:T        set       ids running under a concurrency limit                   the limit
buckets        hash      level and time of each tier's rate limit, the pace of   8 fields, and 400 replays,
                         each replay at a rate                                   7 days
cancels        zset      running jobs to be told, by time; half a millisecond    1 hour
                         more: callbacks are to hear of their end
stats          hash      counters                                                some dozen fields
lines          hash      line → its limit, places taken, when it opens, narrowed  who holds or waits for a
                         to, last number; id → the lines that it has places in   place; a closed line's end
parked         zset      entries that wait for a place, each behind its line     the job's life
                         and a number
unknown        zset      names of unknown tasks, by time; behind a line feed:    1,000 members, 48 hours
                         by when a worker began that knows it
cancelled:ID   string    there after it was cancelled as it ran                  1 hour
result:ID      list      a job's result, one element                             its ttl
counted:NAME   string    the number of this worker's last jobs done that were  90 seconds
                         counted
once:KEY       string    the id of the job that was accepted under this key      its ttl
latest:KEY     string    the time of the latest event handled of one thing       its ttl
places:KEY     zset      who holds a place, by the time at which it ends         the longest hold
rate:SENDER    string    when the requests of who sends webhooks would all have  until then, a minute
                         come evenly
seen:KEY       string    a digest of the body that first came with a webhook's   its ttl
                         transmission id
taken:N        set       ids of jobs that events made, or that were handled      its ttl
                         without one, on one day: N is a number of days
claim:ID       string    who handles it without a job, straight from SQS         its ttl
sent:ORIGIN    string    the last call of a connection, of those that are known  90 seconds
                         when they come again
tries:ID       hash      failures of a message of SQS and why; deaths           4 days, or its end
schedules      hash      name → definition, of schedules                         who adds and removes them
states         hash      name → state of the schedule                            likewise
fires          zset      names by the time at which they are due                 likewise
lateness       hash      name → nominal time, due, made: of its last job         likewise
declared       hash      module → the schedules that it declares, its last boot  one field a module
lead           string    the scheduler that works now                            some seconds
runs:NAME      list      history of a schedule's runs (history.py)               250 lines; goes with it
relayed        zset      ids that came from the outbox, by the time at which     7 days; 1 minute once the
                         they may be forgotten                                   relay's commit is known
encrypted      set       names of encrypted tasks (encrypted_tasks.py)                 who declares them
output:ID      stream    what a job writes while it runs, in pieces              2,000 pieces, 1 hour
log:ID         list      a job's log lines                                      200 lines, 1 hour
progress:ID    string    how far a job is                                       1 hour
=============  ========  =====================================================  ==============================

Those of one service begin with ``{namespace}:{{environment:service}}:``, so that they lie in one cluster slot.
A provider's state (``health:MODEL:KEY``, hash, 1 day after its last use) and whose turn it is to call it
(``turns:MODEL:KEY``, hash, 2 hours) begin with ``{namespace}:{{environment:provider.NAME}}:``. What paid calls cost
(``spent:all:PERIOD`` and ``spent:tenant:TENANT:PERIOD``, hashes, by day and month, 70 days), what is set aside for
those under way (``reservations``, hash, as long as they are; one that was given back for 30 days) and rows that the
database has not taken yet (``unwritten``, hash) begin with ``{namespace}:{{environment:budgets}}:``; an earlier release
counted in ``{namespace}:{{environment:budget.TENANT}}:spent:TENANT:MONTH``. What became of messages straight from SQS
(``tries:ID``) begins with ``{namespace}:{{environment:events.sqs}}:``. Each of these has its own ``sent:ORIGIN``. A
group of dramatiq's (``group``, hash of those of its members that are done, an hour after the last, or the barrier's
time) begins with ``{namespace}:{{environment:group.ID}}:``. Requests for a provider's batches begin with
``{namespace}:{{environment:batches.NAME}}:``: ``collections`` (zset of models, by the last request), ``waiting:MODEL``
(zset of tickets' ids, by time; 100,000), ``bodies:MODEL`` (hash of what these ask, until it is submitted; 256 MiB),
``ticket:ID`` (hash: whose a request is and its answer, until its job took it), ``open`` (hash of batches that are not
over) and ``members:BATCH`` (set of its tickets' ids); but for ``open``, which the collector keeps, 32 days at most.
Beside them, per environment: ``alerts`` (hash of what is wrong and who was told, 200 fields, 7 days), ``providers``
(zset of their states, 1 day), ``spenders`` (zset, of an earlier release, 70 days), ``services`` (set of names),
``presence`` (hash of worker processes, each entry dated, cleaned by readers), ``audit`` (list, 10,000 newest), ``data``
(hash of 3 fields: kept.py), ``edits`` (zset, 2 members: schedules were changed) and, for a moment, ``rights`` (list,
rights.py tries commands on it).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["TIERS", "Catalogue", "EnvironmentKeys", "KnownKey", "ServiceKeys"]

TIERS: Final = range(4)


class ServiceKeys:
    """The keys of one service; ``all`` has them in the order that the scripts take."""

    def __init__(self, namespace: str, environment: str, service: str) -> None:
        self.service = service
        self.prefix = f"{namespace}:{{{environment}:{service}}}:"
        key = self._key
        self.jobs = key("jobs")
        self.ready = [key(f"ready:{tier}") for tier in TIERS]
        self.delayed = key("delayed")
        self.workers = key("workers")
        self.wake = [key(f"wake:{tier}") for tier in TIERS]
        self.news = key("news")
        self.watch = key("watch")
        self.records = key("records")
        self.crashes = key("crashes")
        self.reasons = key("reasons")
        self.dead = [key(f"dead:{tier}") for tier in TIERS]
        self.slots = [key(f"slots:{tier}") for tier in TIERS]
        self.buckets = key("buckets")
        self.cancels = key("cancels")
        self.stats = key("stats")
        self.unknown = key("unknown")
        self.lines = key("lines")
        self.parked = key("parked")
        # Not in ``all``: no worker's turn pays for schedules.
        self.schedules = key("schedules")
        self.states = key("states")
        self.fires = key("fires")
        self.lateness = key("lateness")
        self.declared = key("declared")
        self.lead = key("lead")
        self.sent = key("sent:")  # and the origin
        self.relayed = key("relayed")  # not in ``all``: only a relay asks for it
        self.encrypted = key("encrypted")
        self.all = [
            self.jobs,
            *self.ready,
            self.delayed,
            self.workers,
            *self.wake,
            self.news,
            self.watch,
            self.records,
            self.crashes,
            self.reasons,
            *self.dead,
            *self.slots,
            self.buckets,
            self.cancels,
            self.stats,
            self.unknown,
            self.lines,
            self.parked,
        ]

    def _key(self, name: str) -> bytes:
        return (self.prefix + name).encode()

    def leased(self, name: str) -> bytes:
        return self._key(f"leased:{name}")

    def counted(self, name: str) -> bytes:
        return self._key(f"counted:{name}")

    def result(self, job_id: str) -> bytes:
        return self._key(f"result:{job_id}")

    def cancelled(self, job_id: str) -> bytes:
        return self._key(f"cancelled:{job_id}")

    def output(self, job_id: str) -> bytes:
        return self._key(f"output:{job_id}")

    def log(self, job_id: str) -> bytes:
        return self._key(f"log:{job_id}")

    def progress(self, job_id: str) -> bytes:
        return self._key(f"progress:{job_id}")

    def once(self, key: str) -> bytes:
        return self._key(f"once:{key}")

    def latest(self, key: str) -> bytes:
        return self._key(f"latest:{key}")

    def places(self, key: str) -> bytes:
        return self._key(f"places:{key}")

    def rate(self, sender: str) -> bytes:
        return self._key(f"rate:{sender}")

    def seen(self, key: str) -> bytes:
        return self._key(f"seen:{key}")

    def taken(self, day: int) -> list[bytes]:
        """Where the ids of this day are, then the day before's and the next one's: clocks differ."""
        return [self._key(f"taken:{n}") for n in (day, day - 1, day + 1)]

    def claim(self, job_id: str) -> bytes:
        return self._key(f"claim:{job_id}")

    def runs(self, schedule: str) -> bytes:
        return self._key(f"runs:{schedule}")


class EnvironmentKeys:
    """The keys that belong to no service."""

    def __init__(self, namespace: str, environment: str) -> None:
        prefix = f"{namespace}:{environment}:"
        self._tagged = f"{namespace}:{{{environment}:"
        self.providers = (prefix + "providers").encode()
        self.services = (prefix + "services").encode()
        self.presence = (prefix + "presence").encode()
        self.data = (prefix + "data").encode()
        self.audit = (prefix + "audit").encode()
        self.edits = (prefix + "edits").encode()
        self.alerts = (prefix + "alerts").encode()
        self.rights = (prefix + "rights").encode()
        self.reservations = f"{self._tagged}budgets}}:reservations".encode()
        self.unwritten = f"{self._tagged}budgets}}:unwritten".encode()
        self.budgets_sent = f"{self._tagged}budgets}}:sent:".encode()

    def tries(self, message_id: str) -> bytes:
        return f"{self._tagged}events.sqs}}:tries:{message_id}".encode()

    def tries_sent(self) -> bytes:
        return f"{self._tagged}events.sqs}}:sent:".encode()

    def health(self, provider: str, name: str) -> bytes:
        return f"{self._tagged}provider.{provider}}}:health:{name}".encode()

    def health_sent(self, provider: str) -> bytes:
        return f"{self._tagged}provider.{provider}}}:sent:".encode()

    def turns(self, provider: str, name: str) -> bytes:
        return f"{self._tagged}provider.{provider}}}:turns:{name}".encode()

    def spent(self, tenant: str, period: str) -> bytes:
        """Of a tenant, or of all calls: empty."""
        return f"{self._tagged}budgets}}:spent:{f'tenant:{tenant}' if tenant else 'all'}:{period}".encode()

    def spent_before(self, tenant: str, month: str) -> bytes:
        """Where workers of an earlier release count, in millionths of a dollar."""
        return f"{self._tagged}budget.{tenant}}}:spent:{tenant}:{month}".encode()

    def group(self, group_id: str) -> bytes:
        return f"{self._tagged}group.{group_id}}}:group".encode()

    def collections(self, provider: str) -> bytes:
        return self._of_batches(provider, "collections")

    def waiting(self, provider: str, model: str) -> bytes:
        return self._of_batches(provider, f"waiting:{model}")

    def bodies(self, provider: str, model: str) -> bytes:
        return self._of_batches(provider, f"bodies:{model}")

    def ticket(self, provider: str, ticket: str) -> bytes:
        return self._of_batches(provider, f"ticket:{ticket}")

    def open_batches(self, provider: str) -> bytes:
        return self._of_batches(provider, "open")

    def members(self, provider: str, batch: str) -> bytes:
        return self._of_batches(provider, f"members:{batch}")

    def _of_batches(self, provider: str, name: str) -> bytes:
        return f"{self._tagged}batches.{provider}}}:{name}".encode()


_SERVICE_TYPES: Final = {
    r"jobs": "hash",
    r"ready:[0-3]": "list",
    r"delayed": "zset",
    r"workers": "zset",
    r"wake:[0-3]": "zset",
    r"news": "zset",
    r"watch": "zset",
    r"leased:.+": "set",
    r"records": "hash",
    r"crashes": "hash",
    r"reasons": "hash",
    r"dead:[0-3]": "zset",
    r"slots:[0-3]": "set",
    r"buckets": "hash",
    r"cancels": "zset",
    r"stats": "hash",
    r"unknown": "zset",
    r"lines": "hash",
    r"parked": "zset",
    r"result:.+": "list",
    r"cancelled:.+": "string",
    r"output:.+": "stream",
    r"log:.+": "list",
    r"progress:.+": "string",
    r"health:.+": "hash",
    r"turns:.+": "hash",
    r"spent:.+": "hash",
    r"reservations": "hash",
    r"unwritten": "hash",
    r"once:.+": "string",
    r"latest:.+": "string",
    r"places:.+": "zset",
    r"rate:.+": "string",
    r"seen:.+": "string",
    r"taken:\d+": "set",
    r"claim:.+": "string",
    r"sent:.+": "string",
    r"counted:.+": "string",
    r"tries:.+": "hash",
    r"schedules": "hash",
    r"states": "hash",
    r"fires": "zset",
    r"lateness": "hash",
    r"declared": "hash",
    r"lead": "string",
    r"runs:.+": "list",
    r"encrypted": "set",
    r"relayed": "zset",
    r"group": "hash",
    r"collections": "zset",
    r"waiting:.+": "zset",
    r"bodies:.+": "hash",
    r"ticket:.+": "hash",
    r"open": "hash",
    r"members:.+": "set",
}
"""By a pattern of what follows the tag."""
_ENVIRONMENT_TYPES: Final = {
    "services": "set",
    "presence": "hash",
    "alerts": "hash",
    "audit": "list",
    "data": "hash",
    "edits": "zset",
    "rights": "list",
    "providers": "zset",
    "spenders": "zset",
}
"""Of the keys that belong to no service."""


class KnownKey(NamedTuple):
    """A key that the catalogue has. ``service`` may be a tag of another kind, and empty for a key without a tag."""

    environment: str
    service: str
    name: str
    type: str


class Catalogue:
    """Reads the keys of one namespace (``fourlane doctor``)."""

    def __init__(self, namespace: str) -> None:
        prefix, service = re.escape(namespace), "|".join(f"(?:{name})" for name in _SERVICE_TYPES)
        self._tagged = re.compile(rf"{prefix}:\{{([^:}}]+):([^}}]+)\}}:({service})")
        self._plain = re.compile(rf"{prefix}:([^:{{}}]+):({'|'.join(_ENVIRONMENT_TYPES)})")
        self._types = [(re.compile(name), kind) for name, kind in _SERVICE_TYPES.items()]

    def read(self, key: str) -> KnownKey | None:
        """None when the catalogue has no such key."""
        if match := self._plain.fullmatch(key):
            environment, name = match.groups()
            return KnownKey(environment, "", name, _ENVIRONMENT_TYPES[name])
        if match := self._tagged.fullmatch(key):
            environment, service, name = match.groups()
            kind = next(kind for pattern, kind in self._types if pattern.fullmatch(name))
            return KnownKey(environment, service, name, kind)
        return None
