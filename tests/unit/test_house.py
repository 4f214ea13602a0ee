"""Rules of the house that a machine can check: a name means one thing, a piece fits a screen."""

import ast
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("shared", "scheduler", "migration_tools", "pipelines/src", "pipelines/bundler")
FILE_LINES = 350
FUNCTION_LINES = 40
# Names that say in every package the same: its port, its store ...
ROLES = {
    *("__init__.py", "__main__.py", "app.py", "cli.py"),
    *("errors.py", "filter.py", "port.py", "rows.py", "schema.py", "settings.py", "source.py"),
    *("store.py", "version.py"),
}
# A thing of the books: its table, its service, its route, its page and its command.
LAYERS = (
    "shared/",
    "scheduler/services/",
    "scheduler/api/routes/",
    "scheduler/dashboard/views/",
    "scheduler/cli/",
)


def sources(*folders: str) -> list[Path]:
    """Return their Python files; a migration is a record of its day and keeps its names."""
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in found if "versions" not in path.parts]


EVERYWHERE = sources(*SHIPPED, "demo", "benchmarks", "tests")


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layer(path: str) -> str:
    return next((layer for layer in LAYERS if path.startswith(layer)), "")


def public_types(path: Path) -> list[str]:
    """Return the classes and type aliases of a module; a constant is written in capitals."""
    names: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [each.id for each in targets if isinstance(each, ast.Name)]
    return [name for name in names if name[0].isupper() and not name.isupper()]


def test_a_public_class_or_type_is_defined_once() -> None:
    where = defaultdict(list)
    for path in sources(*SHIPPED):
        for name in public_types(path):
            where[name].append(short(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_a_file_name_is_repeated_only_by_a_role_or_the_layers_of_one_thing() -> None:
    where = defaultdict(list)
    for path in sources(*SHIPPED):
        where[path.name].append(short(path))
    repeated = {
        name: paths for name, paths in where.items() if max(Counter(map(layer, paths)).values()) > 1
    }
    assert {name: paths for name, paths in repeated.items() if name not in ROLES} == {}


def test_files_and_functions_are_short() -> None:
    long: list[str] = []
    for path in EVERYWHERE:
        text = path.read_text()
        if sum(bool(line.strip()) for line in text.splitlines()) > FILE_LINES:
            long.append(short(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(f"{short(path)}: {node.name}: {lines} lines")
    assert long == []


def test_a_module_says_in_a_sentence_what_it_is_and_a_package_is_empty() -> None:
    for path in EVERYWHERE:
        text = path.read_text()
        if path.name == "__init__.py":
            assert text == "", short(path)
        else:
            first, *_ = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")
            assert first.endswith((".", ":", "?")), short(path)
