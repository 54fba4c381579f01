"""The registry itself: names, entry points, and packages that are broken."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import saywhy
from saywhy.datasets.registry import READERS, all_readers
from saywhy.errors import InputError, MethodError, SaywhyError, SaywhyWarning
from saywhy.methods import METHODS
from saywhy.metrics import METRICS
from saywhy.models import SOURCES, all_sources
from saywhy.registry import Registry
from saywhy.targets import TARGETS, Target, all_targets
from saywhy.tasks.registry import TASKS, all_tasks

REGISTRIES = {each.group: each for each in (METHODS, METRICS, TARGETS, SOURCES, READERS, TASKS)}


@dataclass(frozen=True)
class Tool:
    name: str
    function: Callable[..., Any] = print


class Entry:
    """As importlib.metadata has them."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name, self.value, self.load = name, f"theirs:{name}", load


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Registry[Tool]:
    """A registry with a hammer, which other packages bring a saw, something broken and something else."""
    known = Registry("tool", "saywhy.tools", InputError, "saywhy tools", of=Tool, elsewhere={"nail": "it is used up"})
    known.register(Tool("hammer"))
    entries = [
        Entry("broken", lambda: 1 / 0),
        Entry("saw", lambda: Tool("saw")),
        Entry("empty", lambda: "no tool"),
        Entry("hammer", lambda: Tool("hammer", len)),
    ]

    def entry_points(group: str, name: str | None = None) -> list[Entry]:
        assert group == "saywhy.tools"
        return [each for each in entries if name in (None, each.name)]

    monkeypatch.setattr("saywhy.registry.entry_points", entry_points)
    return known


def test_own_entries_are_found_without_reading_entry_points(
    tools: Registry[Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saywhy.registry.entry_points", lambda **_: pytest.fail("nobody asked for others"))
    assert tools.find("hammer") == Tool("hammer")
    assert list(tools) == ["hammer"]


def test_entry_points_of_other_packages_are_found_by_name(tools: Registry[Tool]) -> None:
    assert tools.find("saw") == Tool("saw")
    assert list(tools) == ["hammer", "saw"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "broken",
            r"the tool 'broken' of another package \(theirs:broken\) cannot be loaded: division by zero\. Repair",
        ),
        ("empty", r"the tool 'empty' of another package \(theirs:empty\) registers nothing of that name"),
        ("sw", r"no tool 'sw'\. Nearest: 'saw'\. `saywhy tools` lists them all"),
        ("nail", "'nail' is no tool of its own: it is used up"),
        ("xyzzy", r"no tool 'xyzzy'\. `saywhy tools`"),
    ],
)
def test_find_of_unknown_or_broken_name_raises(tools: Registry[Tool], name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        tools.find(name)
    assert tools.find("hammer") == Tool("hammer")


def test_all_warns_of_broken_entries_and_returns_the_rest(tools: Registry[Tool]) -> None:
    with pytest.warns(SaywhyWarning) as warned:
        found = tools.all()
    assert found == (Tool("hammer"), Tool("saw"))
    assert ["'broken'" in str(warned[0].message), "'empty'" in str(warned[1].message)] == [True, True]
    assert "there is a tool 'hammer' already" in str(warned[2].message)  # a stranger's does not displace ours


def test_registering_a_taken_name_raises(tools: Registry[Tool]) -> None:
    tools.register(tools["hammer"])
    with pytest.raises(InputError, match=r"there is a tool 'hammer' already\. Choose another name"):
        tools.register(Tool("hammer", len))


def test_notebook_cell_may_register_a_name_again(tools: Registry[Tool]) -> None:
    def cell() -> Callable[..., Any]:
        def mine() -> None: ...

        mine.__module__ = "__main__"
        return mine

    first, again = Tool("mine", cell()), Tool("mine", cell())
    tools.register(first)
    tools.register(again)
    assert tools["mine"] is again


def test_module_that_registers_nothing_raises() -> None:
    known: Registry[Tool] = Registry(
        "tool", "saywhy.tools", InputError, "saywhy tools", of=Tool, modules={"drill": "saywhy.errors"}
    )
    assert list(known) == ["drill"]
    with pytest.raises(RuntimeError, match=r"saywhy\.errors does not register the tool 'drill'"):
        known["drill"]


@pytest.mark.parametrize("group", REGISTRIES)
def test_registries_have_named_callable_entries(group: str) -> None:
    registry = REGISTRIES[group]
    assert registry
    for name, value in registry.items():
        assert value.name == name
        assert callable(value.function)
        assert getattr(value, "reading", "reading").strip()
    with pytest.raises(SaywhyError, match=f"no {registry.kind} 'nosuch'.*`{registry.command}` lists them all"):
        registry.find("nosuch")


def test_all_functions_list_whole_registries() -> None:
    for registry, found in (
        (TARGETS, all_targets()),
        (SOURCES, all_sources()),
        (READERS, all_readers()),
        (TASKS, all_tasks()),
    ):
        assert [each.name for each in found] == list(registry)


def test_target_classes_are_all_registered() -> None:
    made = {value.name: _class_of(value.function) for value in TARGETS.values()}
    own = {each for each in _below(Target) if each.__module__.startswith("saywhy.")}
    assert own <= set(made.values())


def _class_of(function: Any) -> type:
    """What a named target makes, with arguments that it takes."""
    function = getattr(function, "func", function)
    if isinstance(function, type):
        return function
    examples = {"per_sample": (0,), "contrast": ("a", "b"), "from_file": None, "several": ("a", "b"), "words": ()}
    arguments = examples.get(function.__name__, ("a",))
    return saywhy.targets.Function if arguments is None else type(function(*arguments))


def _below(parent: type) -> set[type]:
    return {each for child in parent.__subclasses__() for each in (child, *_below(child))}


def test_models_and_datasets_do_not_import_toybox() -> None:
    """Models and data sets name Toybox in a table, like any other package."""
    root = Path(saywhy.__file__).parent
    for file in (*(root / "models").glob("*.py"), *(root / "datasets").glob("*.py"), root / "registry.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("saywhy.toybox"), file


FILES = {
    "methods": (
        "@method('own', title='Own', paper='nobody, 2020', equation='Σₖ Aₖ')\ndef own(activations, gradients): ..."
    ),
    "metrics": (
        "@metric('own', title='Own', paper='ours', equation='M', better='lower', low=0.0, high=1.0, needs='maps')\n"
        "def own(maps): ..."
    ),
    "targets": "@target('own', form='own', reading='of ones own')\ndef own(): ...",
    "models": "@source('own', reading='of ones own')\ndef own(name, weights=None): ...",
    "datasets": "@reader('own', form='own:COUNT', reading='of ones own')\ndef own(count): ...",
    "tasks": "@task('own', title='Own', paper='ours', reading='of ones own')\ndef own(model, image): ...",
}
"""A file for each folder, less the line that imports the decorator."""

ASKED = """
from saywhy.datasets.registry import READERS as datasets
from saywhy.methods import METHODS as methods
from saywhy.metrics import METRICS as metrics
from saywhy.models import SOURCES as models
from saywhy.targets import TARGETS as targets
from saywhy.tasks.registry import TASKS as tasks
print([each.find("own").name for each in (methods, metrics, targets, models, datasets, tasks)])
print([each.all()[-1].name for each in (methods, metrics, targets, models, datasets, tasks)])
"""


@pytest.mark.slow
def test_new_file_in_a_registry_folder_is_discovered(tmp_path: Path) -> None:
    """A new entry needs no line in a list: its file is found."""
    package = tmp_path / "saywhy"
    left_out = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(Path(saywhy.__file__).parent, package, ignore=left_out)
    for folder, code in FILES.items():
        decorator = code[1 : code.index("(")]
        imports = f"from saywhy.{folder}.registry import {decorator}\n"
        (package / folder / "zzz.py").write_text(imports + code, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", ASKED],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(["own"] * 6)] * 2


def test_interrupted_import_of_a_folder_is_repeated_at_the_next_look(tmp_path, monkeypatch):
    """A Ctrl-C, or another thread that looks at the same time, must not leave names missing for ever."""
    package = tmp_path / "slow_tools"
    package.mkdir()
    (package / "__init__.py").write_text("interrupted = True\n", encoding="utf-8")
    code = "import slow_tools\nif slow_tools.interrupted:\n    raise KeyboardInterrupt\n"
    (package / "one.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("tool", "saywhy.tools", SaywhyError, "saywhy tools", of=Tool, folder="slow_tools")
    with pytest.raises(KeyboardInterrupt):
        registry.lookup("late")
    sys.modules["slow_tools"].interrupted = False
    registry.lookup("late")
    assert "slow_tools.one" in sys.modules
    for name in ("slow_tools", "slow_tools.one"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Grad-CAM", "gradcam"), ("GradCAM++", "gradcam++"), ("HiResCAM", "hirescam"), ("RSI Grad-CAM", "rsi-gradcam"),
        ("integrated_gradients", "integrated-gradients"), ("IntegratedGradients", "integrated-gradients"),
    ],
)  # fmt: skip
def test_names_of_papers_and_other_packages_are_found(given: str, name: str) -> None:
    assert saywhy.methods.find_method(given).name == name
    with pytest.raises(MethodError, match="no method 'gradcamm'"):
        saywhy.methods.find_method("gradcamm")
