"""What the plugin needs of its sources: everything that the entry classes reach by name."""

import ast
import re
from collections.abc import Iterable

from pipelines.bundler.source_module import bound_names


def reached_names(bodies: Iterable[str], entries: Iterable[str]) -> set[str]:
    """Return every name that the entries use, directly or through what they use.

    A statement that binds no name runs in any case: what it uses is reached too.
    """
    uses: dict[str, set[str]] = {}
    waiting = list(entries)
    for body in bodies:
        for statement in ast.parse(body).body:
            used, bound = names_in(statement), bound_names(statement)
            for name in bound:
                uses.setdefault(name, set()).update(used)
            if not bound:
                waiting.extend(used)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(uses.get(name, ()))
    return reached


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def without_unreached(body: str, reached: set[str]) -> str:
    """Leave out the definitions that nothing reaches, with the comments directly above them."""
    lines = body.splitlines()
    dropped: set[int] = set()
    for statement in ast.parse(body).body:
        names = bound_names(statement)
        if names and reached.isdisjoint(names):
            decorators = getattr(statement, "decorator_list", [])
            first = min(node.lineno for node in (statement, *decorators))
            while first > 1 and lines[first - 2].startswith("#"):
                first -= 1
            dropped.update(range(first, (statement.end_lineno or 0) + 1))
    kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(kept)).strip("\n")
