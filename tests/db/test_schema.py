"""The migrations make what the models say, on both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Inspector, Table, UniqueConstraint, inspect

from fourlane.db import migrate
from fourlane.db.engine import Database
from fourlane.db.models import Base


def test_migrations_make_the_models(database: Database) -> None:
    inspector = inspect(database.engine)
    assert set(inspector.get_table_names()) == set(Base.metadata.tables)
    for table in Base.metadata.sorted_tables:
        assert _reflected(inspector, table, database) == _declared(table, database), table.name
    assert migrate.check(database) == []


def _reflected(inspector: Inspector, table: Table, database: Database) -> dict[str, Any]:
    dialect = database.engine.dialect
    indexes = [i for i in inspector.get_indexes(table.name) if not i.get("duplicates_constraint")]
    return {
        "columns": {
            c["name"]: (
                c["type"].compile(dialect),
                c["nullable"],
                _has_default(c["name"], c["default"]),
            )
            for c in inspector.get_columns(table.name)
        },
        "key": inspector.get_pk_constraint(table.name)["constrained_columns"],
        "foreign": _foreign(inspector, table, database),
        "unique": {tuple(u["column_names"]) for u in inspector.get_unique_constraints(table.name)},
        "indexes": {(i["name"], *i["column_names"]) for i in indexes},
    }


def _has_default(column: str, default: Any) -> bool:
    # Only the database knows how to make keys by itself; the models make theirs in Python.
    return default is not None and column not in ("id", "position", "created_by")


def _foreign(inspector: Inspector, table: Table, database: Database) -> set[tuple[str, str, str]]:
    if database.dialect == "postgresql":
        return {
            (*f["constrained_columns"], f["referred_table"], f["options"]["ondelete"])
            for f in inspector.get_foreign_keys(table.name)
        }
    # SQLAlchemy reads no ON DELETE of a REFERENCES beside its column.
    with database.engine.begin() as connection:
        rows = connection.exec_driver_sql(f"PRAGMA foreign_key_list({table.name})").mappings()
        return {(row["from"], row["table"], row["on_delete"]) for row in rows}


def _declared(table: Table, database: Database) -> dict[str, Any]:
    dialect = database.engine.dialect
    return {
        "columns": {
            c.name: (
                c.type.dialect_impl(dialect).compile(dialect),
                # SQLite does not say NOT NULL of what is the key.
                c.nullable or (dialect.name == "sqlite" and c.primary_key and len(table.primary_key) == 1),
                _has_default(c.name, c.server_default),
            )
            for c in table.columns
        },
        "key": [c.name for c in table.primary_key],
        "foreign": {(f.parent.name, f.column.table.name, f.ondelete) for f in table.foreign_keys},
        "unique": {tuple(c.name for c in u.columns) for u in table.constraints if isinstance(u, UniqueConstraint)},
        "indexes": {(i.name, *(c.name for c in i.columns)) for i in table.indexes},
    }
