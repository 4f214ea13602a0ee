"""Flatten the plugin's sources into the one file an administrator uploads.

`python -m pipelines.bundler` writes it, `--check` fails when the committed one is stale.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipelines.bundler.reach import names_in, reached_names, without_unreached
from pipelines.bundler.source_module import (
    REWRITTEN_PHRASES,
    FlatteningRefused,
    Import,
    SourceModule,
    read_module,
)

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path("pipelines/openrouter_usage_filter.py")
ENTRIES = ("pipelines.src.function.filter", "pipelines.src.pipeline.filter")
ENTRY_CLASSES = ("Filter", "Pipeline")
# Line 1 is exactly three quotes, or Open WebUI sees no frontmatter; there is no `requirements:`
# line, so loading needs neither pip nor a network.
FRONTMATTER = '''"""
title: OpenRouter usage ledger
author: usage-ledger
version: {version}
license: MIT
description: Books every dollar OpenRouter bills to a person, a model and a task, exactly once.

One file for both hosts of Open WebUI: a Pipelines filter (class Pipeline) and a Function filter
(class Filter). It needs no package and no network to load. Generated from pipelines/src and
shared by `make bundle`; edit those, not this.
"""

# Saved in Open WebUI's editor the file stays as it was shipped: its formatter leaves it alone.
# fmt: off'''
_VERSION_HEADING = re.compile(r"^#+ +\[?v?(\d+\.\d+\.\d+[^\s\]]*)\]?", re.MULTILINE)
_VERSION_LINE = re.compile(r'^VERSION = "[^"]*"$', re.MULTILINE)


def modules_in_order(entries: Sequence[str], root: Path) -> list[SourceModule]:
    """Return the modules that the entries need, each after those it needs itself.

    Raises FlatteningRefused when they form a cycle or one breaks a rule.
    """
    done: dict[str, SourceModule] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            raise FlatteningRefused(Path(*name.split(".")).with_suffix(".py"), 1, f"cycle: {cycle}")
        path.append(name)
        module = read_module(name, root)
        for needed in module.needs:
            visit(needed)
        path.pop()
        done[name] = module

    for entry in entries:
        visit(entry)
    return list(done.values())


def flatten(
    modules: Sequence[SourceModule], version: str, entry_classes: Sequence[str] = ENTRY_CLASSES
) -> str:
    """Return the text of the one file: what the entry classes reach of the modules.

    Raises FlatteningRefused when a name would mean two things.
    """
    bodies = _merged_bodies(modules)
    reached = reached_names(bodies.values(), entry_classes)
    sections, used = [], set[str]()
    for module in modules:
        body = without_unreached(bodies[module.name], reached)
        if body:
            used |= names_in(ast.parse(body))
            body = _VERSION_LINE.sub(f'VERSION = "{version}"', body)
            sections.append(f"{_banner(module)}\n\n\n{body}")
    imports = {found for module in modules for found in module.imports if found.binds in used}
    head = f"{FRONTMATTER.format(version=version)}\n\n{_import_block(imports)}\n\n"
    text = head + "\n\n\n".join(sections) + "\n"
    for number, line in enumerate(text.splitlines(), 1):
        if any(phrase in line for phrase in REWRITTEN_PHRASES) or not line.isascii():
            raise FlatteningRefused(TARGET, number, "the frontmatter breaks a rule of the text")
    return text


def _merged_bodies(modules: Sequence[SourceModule]) -> dict[str, str]:
    """Return the code of each module; a line that several share stands in the first one only."""
    repeated = _check_one_meaning(modules)
    bodies = {}
    for module in modules:
        body = f"{module.body}\n"
        for text in repeated.get(module.name, []):
            body = body.replace(f"{text}\n", "", 1)
        bodies[module.name] = body.strip()
    return bodies


def _check_one_meaning(modules: Iterable[SourceModule]) -> dict[str, list[str]]:
    """Refuse a name with two meanings; return per module the repeated lines to leave out."""
    meanings: dict[str, tuple[str, Path]] = {}
    repeated: dict[str, list[str]] = {}
    for module in modules:
        for found, line in module.imports.items():
            known = meanings.setdefault(found.binds, (repr(found), module.path))
            if known[0] != repr(found):
                raise _two_meanings(found.binds, known[1], module.path, line)
        for name, (text, line) in module.defines.items():
            if name not in meanings:
                meanings[name] = (text, module.path)
            elif meanings[name][0] == text and "\n" not in text:
                repeated.setdefault(module.name, []).append(text)
            else:
                raise _two_meanings(name, meanings[name][1], module.path, line)
    return repeated


def _two_meanings(name: str, first: Path, second: Path, line: int) -> FlatteningRefused:
    return FlatteningRefused(second, line, f"{name} already means something else in {first}")


def _import_block(imports: set[Import]) -> str:
    """Write imports as ruff sorts them: the standard library first, then the rest."""
    standard = {found for found in imports if _is_standard(found)}
    blocks = [_import_lines(block) for block in (standard, imports - standard) if block]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _is_standard(found: Import) -> bool:
    return found.module.split(".")[0] in sys.stdlib_module_names


def _import_lines(imports: set[Import]) -> list[str]:
    plain = sorted(found for found in imports if not found.name)
    lines = [
        f"import {found.module}" + (f" as {found.alias}" if found.alias else "") for found in plain
    ]
    for module in sorted({found.module for found in imports if found.name}):
        names = [
            found.name + (f" as {found.alias}" if found.alias else "")
            for found in sorted(imports, key=_import_order)
            if found.name and found.module == module
        ]
        line = f"from {module} import {', '.join(names)}"
        if len(line) > 100:
            listed = "".join(f"    {name},\n" for name in names)
            line = f"from {module} import (\n{listed})"
        lines.append(line)
    return lines


def _import_order(found: Import) -> tuple[bool, bool, str]:
    """Sort as ruff does: constants, then classes, then functions."""
    return (not found.name.isupper(), not found.name[:1].isupper(), found.name)


def _banner(module: SourceModule) -> str:
    """Introduce a module by its path and docstring."""
    lines = [f"# {line}".rstrip() for line in module.docstring.splitlines()]
    rule = "# " + "-" * 98
    return "\n".join([rule, f"# {module.path.as_posix()}", "#", *lines, rule])


def released_version(root: Path) -> str:
    """Return the first version that a heading of CHANGELOG.md names."""
    found = _VERSION_HEADING.search((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if found is None:
        raise FlatteningRefused(Path("CHANGELOG.md"), 1, "no heading names a version")
    return found[1]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the file, or with `--check` compare it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the file is stale")
    wants_check = parser.parse_args(arguments).check
    try:
        modules = modules_in_order(ENTRIES, root)
        text = flatten(modules, released_version(root))
    except FlatteningRefused as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    target = root / TARGET
    if not wants_check:
        target.write_text(text, encoding="ascii")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{TARGET} is stale: run `make bundle`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
