"""One source module of the plugin: what it imports, what it defines, what it may not do."""

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

OURS = ("shared.", "pipelines.src.")
# Open WebUI rewrites these wherever they stand in the text of a Function, prose included.
REWRITTEN_PHRASES = tuple(f"from {name}" for name in ("utils", "apps", "main", "config"))
# Open WebUI would load a top-level class of one of these names as the plugin itself.
HOST_CLASSES = frozenset({"Pipe", "Action", "Event", "Tools"})
HOST_NAMES = frozenset({"__file__", "__name__", "__spec__", "__path__"})
_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


class FlatteningRefused(Exception):
    """A source breaks a rule of flattening; the text names the file, the line and the rule."""

    def __init__(self, path: Path, line: int, rule: str) -> None:
        super().__init__(f"{path}:{line}: {rule}")


@dataclass(frozen=True, order=True)
class Import:
    """One name imported at the top of a module; `name` is empty for a plain `import module`."""

    module: str
    name: str = ""
    alias: str = ""

    @property
    def binds(self) -> str:
        return self.alias or self.name or self.module.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class SourceModule:
    """A module that obeys the rules of flattening.

    `imports` maps foreign imports to their lines, `needs` names our own modules, `defines` maps a
    top-level name to the text and the line that bind it.
    """

    name: str
    path: Path
    docstring: str
    imports: dict[Import, int]
    needs: tuple[str, ...]
    defines: dict[str, tuple[str, int]]
    body: str


def read_module(name: str, root: Path) -> SourceModule:
    """Read a module and check every rule that it can break by itself.

    Raises FlatteningRefused with the file and the line of the first breach.
    """
    path = root / Path(*name.split(".")).with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    shown = path.relative_to(root)
    _check_text(text, shown)
    tree = ast.parse(text, str(shown))
    docstring = ast.get_docstring(tree)
    if not docstring:
        raise FlatteningRefused(shown, 1, "a module begins with a docstring")
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    _check_imports(tree, imports, shown)
    _check_names(tree, shown)
    return SourceModule(
        name=name,
        path=shown,
        docstring=docstring,
        imports={
            found: node.lineno
            for node in imports
            for found in _imported(node)
            if not _is_ours(found.module)
        },
        needs=tuple(
            dict.fromkeys(
                node.module
                for node in imports
                if isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module)
            )
        ),
        defines=_definitions(tree, text, shown),
        body=_body_text(tree, text),
    )


def _check_text(text: str, path: Path) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.isascii():
            raise FlatteningRefused(path, number, "sources are ASCII: the host's locale reads them")
        for phrase in REWRITTEN_PHRASES:
            if phrase in line:
                raise FlatteningRefused(
                    path, number, f"Open WebUI rewrites the words {phrase!r}, even in prose"
                )


def _check_imports(tree: ast.Module, at_top: list[ast.Import | ast.ImportFrom], path: Path) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            raise FlatteningRefused(path, node.lineno, "imports are absolute")
        for found in _imported(node):
            _check_import(found, node in at_top, path, node.lineno)
    for block in tree.body:
        if isinstance(block, ast.If | ast.Try | ast.With) and any(
            isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(block)
        ):
            raise FlatteningRefused(path, block.lineno, "no import stands in an if, try or with")


def _check_import(found: Import, at_top: bool, path: Path, line: int) -> None:
    if found.module == "__future__":
        raise FlatteningRefused(path, line, "no future import: it breaks dataclasses in Pipelines")
    if found.name == "*":
        raise FlatteningRefused(path, line, "every imported name is written out")
    if not _is_ours(found.module):
        return
    if not at_top:
        raise FlatteningRefused(path, line, "our own modules are imported at the top level only")
    if not found.name or found.alias:
        raise FlatteningRefused(
            path, line, "our own modules are imported by `from module import Name`, unrenamed"
        )


def _check_names(tree: ast.Module, path: Path) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in HOST_NAMES:
            raise FlatteningRefused(path, node.lineno, f"{node.id} is the host's, not ours")


def _definitions(tree: ast.Module, text: str, path: Path) -> dict[str, tuple[str, int]]:
    """Return every name bound at the top level, with the text that binds it and its line."""
    found: dict[str, tuple[str, int]] = {}
    for statement in tree.body:
        source = ast.get_source_segment(text, statement) or ""
        for name in bound_names(statement):
            if name in HOST_CLASSES:
                rule = f"Open WebUI would take a top-level {name} for the plugin"
                raise FlatteningRefused(path, statement.lineno, rule)
            if hasattr(builtins, name):
                rule = f"{name} would hide the builtin in the whole file"
                raise FlatteningRefused(path, statement.lineno, rule)
            found[name] = (source, statement.lineno)
    return found


def bound_names(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines; none for an import."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return []
    names, waiting = [], [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))  # type: ignore[arg-type]
    return names


def _imported(node: ast.Import | ast.ImportFrom) -> list[Import]:
    if isinstance(node, ast.Import):
        return [Import(alias.name, "", alias.asname or "") for alias in node.names]
    return [Import(node.module or "", alias.name, alias.asname or "") for alias in node.names]


def _is_ours(module: str) -> bool:
    return f"{module}.".startswith(OURS)


def _body_text(tree: ast.Module, text: str) -> str:
    """Return the source without its docstring and imports, comments kept."""
    lines = text.splitlines()
    dropped: set[int] = set()
    for index, statement in enumerate(tree.body):
        is_docstring = index == 0
        if is_docstring or isinstance(statement, ast.Import | ast.ImportFrom):
            dropped.update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(kept)).strip("\n")
