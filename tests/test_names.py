"""A name of a class or type stands for one thing in the whole package."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]


def definitions(statement: ast.stmt) -> list[tuple[str, str]]:
    """The names that a statement of a module defines, with their definitions; a class is its own definition."""
    if isinstance(statement, ast.ClassDef):
        return [(statement.name, "")]
    if isinstance(statement, ast.Assign):
        return [(one.id, ast.unparse(statement.value)) for one in statement.targets if isinstance(one, ast.Name)]
    return []


def test_no_class_or_alias_name_stands_for_two_things() -> None:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted((ROOT / "src" / "saywhy").rglob("*.py")):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            for name, definition in definitions(statement):
                if name[0].isupper() and not name.isupper():  # constants belong to their modules
                    place = str(file.relative_to(ROOT))
                    found[name][definition or place] = place
    assert len(found) > 100
    assert {name: list(places.values()) for name, places in found.items() if len(places) > 1} == {}
