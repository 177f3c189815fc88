"""Imported by a worker, takes all telling out of its engine, so that its cost can be measured (observe.py)."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, Final

from fourlane.worker.loop import loop, sleep, turning
from fourlane.worker.run import begin, finish

__all__: list[str] = []

_HOOKS: Final = frozenset({"tell", "tell_again_at"})


class _WithoutHooks(ast.NodeTransformer):
    """Drops the statements that only a hook needs."""

    def __init__(self) -> None:
        self.dropped = 0

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._drop() if _names(node.test) & _HOOKS else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        return self._drop() if _names(node) & _HOOKS else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self._drop() if _names(node) & _HOOKS else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return self._drop() if _names(node) & _HOOKS else node

    def _drop(self) -> ast.stmt:
        self.dropped += 1
        return ast.Pass()


def _names(node: ast.AST) -> set[str]:
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found | {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}


def _without_hooks(function: Callable[..., Any]) -> Callable[..., Any]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    transformer = _WithoutHooks()
    tree = ast.fix_missing_locations(transformer.visit(tree))
    if not transformer.dropped:
        raise AssertionError(f"{function.__qualname__} has no hook any more: leave it out here")
    found: dict[str, Any] = {}
    exec(compile(tree, inspect.getfile(function), "exec"), function.__globals__, found)
    stripped: Callable[..., Any] = found[function.__name__]
    return stripped


for owner, names in (
    (loop.Loop, ("finished",)),
    (turning.Turns, ("take", "_tell_ended")),
    (sleep.Sleep, ("wait",)),
    (begin.Begin, ("_begin_with",)),
    (finish.Finish, ("finish", "_let_go")),
):
    for name in names:
        setattr(owner, name, _without_hooks(getattr(owner, name)))
