"""All that is there: servers, a database with Supabase's roles, a worker of two processes, the receiver of webhooks."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.hostile.bird import STRIPE_SECRET, Receiver
from benchmarks.hostile.parties import ACME, BIRD, MARK, TASKS
from benchmarks.hostile.processes import Processes
from benchmarks.server import children
from fourlane import crypto
from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.db.models import WebhookEndpoint
from fourlane.db.setup import database
from fourlane.root import root
from fourlane.tasks.webhooks import rows
from tests.command import CALL
from tests.http_server import serving
from tests.postgres import Postgres, connect, postgres
from tests.servers import Server, free_port
from tests.tasks.notifications.standins import KEY, Providers

__all__ = ["World", "opened"]

_ROLES: Final = {"anon": "", "authenticated": "", "service_role": "BYPASSRLS"}


@dataclass(frozen=True)
class World:
    """What runs, and where."""

    folder: Path
    admin: Any
    """A cursor of the database's superuser."""
    members_url: str
    redis_port: int
    receivers_port: int
    webhooks_port: int
    processes: Processes
    database: Database
    """As the worker's role."""
    receiver: Receiver
    providers: Providers
    """Who takes emails."""
    workers: frozenset[int]
    """The worker's processes as they were at the beginning."""
    worker_pid: int

    def workers_now(self) -> frozenset[int]:
        return frozenset(children(self.worker_pid))


@contextmanager
def opened(folder: Path, *, durable: bool, **settings: str) -> Iterator[World]:
    """Start it all; ``settings`` are more variables of the environment. This process's own become the platform's."""
    with ExitStack() as stack:
        binary = os.environ.get("TEST_REDIS_BINARY") or shutil.which("redis-server")
        redis = stack.enter_context(Server(folder / "redis", aof=False, binary=binary))
        server = stack.enter_context(postgres(durable=durable))
        url = stack.enter_context(server.database())
        admin = connect(url).cursor()
        stack.callback(admin.connection.close)
        urls = stack.enter_context(_roles(server, url, admin))
        providers = stack.enter_context(Providers())
        os.environ.update(_environment(folder, redis.url, urls["fourlane_worker"], providers.url) | settings)
        migrated = open_database(url)
        migrate.migrate(migrated)
        migrated.close()
        _fill(admin)
        stack.callback(root().close)
        receiver = Receiver()
        _add_endpoints(root().part(database), receiver, stack.enter_context(serving(receiver)))
        processes = stack.enter_context(Processes(folder))
        port = free_port()
        endpoint = ["uvicorn", "--factory", "fourlane.webhooks.asgi:from_settings", "--no-proxy-headers", "--port"]
        work = ["worker", "benchmarks.hostile.tasks", "fourlane.tasks.notifications", "--processes", "2", "--relay"]
        processes.start("webhooks", [sys.executable, "-m", *endpoint, str(port)], os.environ)
        worker = processes.start("worker", [*CALL, *work], os.environ)
        processes.wait_for("webhooks", "running on")
        processes.wait_for("worker", "ready:")
        yield World(
            folder=folder,
            admin=admin,
            members_url=urls["authenticated"],
            redis_port=redis.port,
            receivers_port=free_port(),
            webhooks_port=port,
            processes=processes,
            database=root().part(database),
            receiver=receiver,
            providers=providers,
            workers=frozenset(children(worker)),
            worker_pid=worker,
        )


def _environment(folder: Path, redis_url: str, database_url: str, mail_url: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "FOURLANE_ENVIRONMENT": "staging",
        "FOURLANE_NAMESPACE": "hostile",
        "FOURLANE_ENCRYPTION_KEYS": crypto.new_key(),
        "FOURLANE_STRIPE_WEBHOOK_SECRETS": STRIPE_SECRET,
        "FOURLANE_WEBHOOK_ALLOW_PRIVATE": "true",
        "FOURLANE_OUTBOX_PLACES": "4",
        "FOURLANE_EMAIL_FROM": "Fourlane <hello@example.com>",
        "RESEND_API_KEY": KEY,
        "FOURLANE_RESEND_URL": mail_url,
        "FOURLANE_RESEND_PER_SECOND": "1000",
        "HOSTILE_FOLDER": str(folder),
    }


@contextmanager
def _roles(server: Postgres, url: str, admin: Any) -> Iterator[dict[str, str]]:
    """Those of a Supabase project, which gives every new table to everybody; and who logs in, by what for."""
    made = []
    for role, option in _ROLES.items():
        admin.execute("SELECT to_regrole(%s)", [role])
        if admin.fetchone() == (None,):
            admin.execute(f"CREATE ROLE {role} NOLOGIN {option}")
            made.append(role)
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
            admin.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO {role}")
    admin.execute("DO $$ BEGIN CREATE ROLE fourlane_worker NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    urls = {}
    for group in ("authenticated", "fourlane_worker"):
        name = f"r{uuid.uuid4().hex[:8]}"
        inherits = "INHERIT" if group == "fourlane_worker" else "NOINHERIT"
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' {inherits} IN ROLE {group}")
        made.append(name)
        urls[group] = server.url_of(url.rpartition("/")[2], user=name)
    yield urls
    for name in made:
        admin.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def _fill(admin: Any) -> None:
    """Both organizations, and rows of Bird's where Acme will look for them."""
    for party in (ACME, BIRD):
        whose = str(party.organization)
        name = MARK if party is BIRD else party.name
        admin.execute("INSERT INTO organizations (id, name, slug) VALUES (%s, %s, %s)", [whose, name, name])
        admin.execute(
            "INSERT INTO organization_members (organization_id, user_id) VALUES (%s, %s)", [whose, str(party.user)]
        )
        admin.execute("INSERT INTO credit_accounts (organization_id) VALUES (%s)", [whose])
        admin.execute(
            "INSERT INTO audit_logs (organization_id, actor, action) VALUES (%s, %s, 'joined')", [whose, name]
        )
        admin.execute(
            "INSERT INTO api_keys (organization_id, name, prefix, key_hash) VALUES (%s, %s, 'k', %s)",
            [whose, name, name.encode()],
        )
        admin.execute(
            "INSERT INTO notification_preferences (organization_id, user_id, channel) VALUES (%s, %s, 'email')",
            [whose, str(party.user)],
        )
    for task, tier in TASKS.items():
        admin.execute("INSERT INTO outbox_tasks (task, service, tier) VALUES (%s, 'images', %s)", [task, tier])


def _add_endpoints(database: Database, receiver: Receiver, url: str) -> None:
    """Bird's: one that keeps the order of a key's, one that does not."""
    with database.begin() as session:
        for name in ("plain", "ordered"):
            receiver.secrets[name] = rows.new_secret()
            session.add(
                WebhookEndpoint(
                    organization_id=BIRD.organization,
                    url=f"{url}/{name}",
                    secret=receiver.secrets[name],
                    event_types=["order.*"],
                    ordered=name == "ordered",
                )
            )
