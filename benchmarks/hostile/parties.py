"""Two organizations of strangers, and how a member of one reaches the database: as through PostgREST."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg2

__all__ = ["ACME", "BIRD", "MARK", "MARKS", "TASKS", "Member", "Party"]


@dataclass(frozen=True, slots=True)
class Party:
    """An organization and its only member."""

    name: str
    organization: uuid.UUID
    user: uuid.UUID


ACME: Final = Party("Acme", uuid.UUID("aaaaaaaa-0000-4000-8000-000000000001"), uuid.uuid5(uuid.NAMESPACE_DNS, "ann"))
"""The hostile one."""
BIRD: Final = Party("Bird", uuid.UUID("bbbbbbbb-0000-4000-8000-000000000001"), uuid.uuid5(uuid.NAMESPACE_DNS, "bob"))
MARK: Final = "a-secret-of-bird"
"""In all that is Bird's, and in nothing that Acme writes."""
MARKS: Final = (MARK, str(BIRD.organization), str(BIRD.user))

TASKS: Final = {"thumb": 0, "large": 1, "explode": 1, "stall": 1, "swell": 1}
"""What members may enqueue, of the service images, and its tier."""


class Member:
    """A connection of PostgREST's role, which becomes ``authenticated`` for one user in each transaction."""

    def __init__(self, url: str, party: Party) -> None:
        self._claims = json.dumps({"sub": str(party.user), "role": "authenticated"})
        self._connection = psycopg2.connect(url)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor; what was done is committed at the end, rolled back where it raises."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE authenticated; SET LOCAL statement_timeout = '8s'")
            cursor.execute("SELECT set_config('request.jwt.claims', %s, true)", [self._claims])
            yield cursor

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self.transaction() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        self._connection.close()
