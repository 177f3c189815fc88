"""By which verbs the code under fourlane/ uses each table, read from its source."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fourlane
from fourlane.db import models

__all__ = ["used"]

_ROOT = Path(fourlane.__file__).parent
_OWNERS = ("db/models/", "db/migrate.py", "db/rights.py", "db/rotate.py")
"""Work as the owner of the tables."""
_MODELS = {name: getattr(models, name) for name in models.__all__ if hasattr(getattr(models, name), "__table__")}
_VERBS = {"update": "UPDATE", "delete": "DELETE", "insert": "INSERT"}
_UNSEEN = {
    "schema_versions": {"SELECT"},  # migrate.status, at a worker's start
    "invoices": {"UPDATE"},  # billing/repairs.py has the model in a variable
    "subscriptions": {"UPDATE"},
}


def used() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Verbs by table: those that are surely used, and those that may be, for a row's attribute may have been set."""
    found: dict[str, set[str]] = defaultdict(set)
    perhaps: dict[str, set[str]] = defaultdict(set)
    for file in sorted(_ROOT.rglob("*.py")):
        if not str(file.relative_to(_ROOT)).startswith(_OWNERS):
            for table, verb, is_sure in _of_module(ast.parse(file.read_text())):
                (found if is_sure else perhaps)[table].add(verb)
    for table, verbs in _UNSEEN.items():
        found[table] |= verbs
    return found, {table: found[table] | perhaps[table] for table in found.keys() | perhaps.keys()}


def _of_module(tree: ast.Module) -> Iterator[tuple[str, str, bool]]:
    names = dict(_imported(tree))
    if not names:
        return
    upserts = any(isinstance(n, ast.Attribute) and n.attr == "on_conflict_do_update" for n in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            yield names[node.id], "SELECT", True
        elif isinstance(node, ast.Call):
            for table, verb in _of_call(node, names):
                yield table, verb, True
                if verb == "INSERT" and upserts:
                    yield table, "UPDATE", True
        elif isinstance(node, ast.Assign):
            for table in _of_assignment(node, set(names.values())):
                yield table, "UPDATE", False


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fourlane.db.models"):
            for name in node.names:
                if name.name in _MODELS:
                    yield name.asname or name.name, _MODELS[name.name].__tablename__
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            for part in ast.walk(node.value):
                if isinstance(part, ast.Attribute) and part.attr == "__table__" and isinstance(part.value, ast.Name):
                    yield node.targets[0].id, _MODELS[part.value.id].__tablename__


def _of_call(call: ast.Call, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    if isinstance(call.func, ast.Name) and call.func.id in names:
        yield names[call.func.id], "INSERT"  # a row is made
    made_by = call.func.func if isinstance(call.func, ast.Call) else call.func
    verb = _VERBS.get(made_by.id.removesuffix("_into")) if isinstance(made_by, ast.Name) else None
    for argument in call.args if verb else ():
        of = argument.value if isinstance(argument, ast.Attribute) else argument
        if verb and isinstance(of, ast.Name) and of.id in names:
            yield names[of.id], verb


def _of_assignment(node: ast.Assign, tables: set[str]) -> Iterator[str]:
    """Tables of whose rows an attribute may be set."""
    targets = [part for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Attribute)]
    for target in targets:
        for table in tables:
            is_self = isinstance(target.value, ast.Name) and target.value.id == "self"
            if not is_self and target.attr in models.Base.metadata.tables[table].columns:
                yield table
