"""Every method of the registry is documented, referenced and tested against an oracle."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

from oracles import ORACLES, RUN_ORACLES
from saywhy.errors import MethodError, SaywhyWarning
from saywhy.methods import METHODS, Method, all_methods, find_method, register
from saywhy.methods.method import FAMILIES

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", METHODS)
class TestEveryEntry:
    def test_has_paper_equation_doctest_and_oracle(self, name):
        assert not missing(METHODS[name]), "\n".join(missing(METHODS[name]))

    def test_names_its_paper_and_its_equation(self, name):
        method = METHODS[name]
        assert method.name == name == name.lower().replace("_", "-").replace(" ", "-")
        assert method.title
        assert method.paper[-4:].isdigit()  # authors, and then the year
        assert len(method.equation) > 3

    def test_docstring_has_equation_inputs_outputs_and_an_example(self, name):
        text = inspect.getdoc(METHODS[name].function) or ""
        assert ".. math::" in text
        assert "Args:" in text
        assert "Returns:" in text
        example = doctest.DocTestParser().get_examples(text)
        assert [e for e in example if e.want]

    def test_docstring_describes_every_argument(self, name):
        text = inspect.getdoc(METHODS[name].function) or ""
        arguments = text.split("Args:")[1].split("Returns:")[0]
        for parameter in inspect.signature(METHODS[name].function).parameters:
            assert re.search(rf"\b{parameter}\b.*:", arguments)

    def test_has_an_oracle_of_its_own(self, name):
        oracle = {**ORACLES, **RUN_ORACLES}[name]
        assert oracle.__module__.startswith("oracles")
        assert oracle.__doc__ or METHODS[name].passes == "several"
        if METHODS[name].passes == "several":
            return  # tests/methods/test_runs.py
        # The same switches, with the same defaults.
        ours, theirs = METHODS[name].parameters, inspect.signature(oracle).parameters
        assert {p.name: p.default for p in theirs.values() if p.kind is p.KEYWORD_ONLY} == ours

    def test_is_in_the_documentation(self, name):
        page = REPOSITORY / "docs" / "methods.md"
        if not page.is_file():
            pytest.skip("docs/methods.md has not been generated: saywhy methods --markdown")
        assert f"`{name}`" in page.read_text(encoding="utf-8")

    def test_is_in_the_parity_ledger(self, name):
        page = (REPOSITORY / "docs" / "parity.md").read_text(encoding="utf-8")
        assert f"`{name}`" in page
        assert METHODS[name].paper in page


def missing(method: Method) -> list[str]:
    """What a method has to come with and does not, so that whoever adds one reads what to do."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(method.function) or "")
    kind, oracles = ("oracle", ORACLES) if method.passes == "one" else ("run_oracle", RUN_ORACLES)
    checks = {
        f"'{method.name}' names no paper: paper= in its decorator": method.paper,
        f"'{method.name}' has no equation: equation= in its decorator": method.equation,
        f"'{method.name}' has no doctest with a value in its docstring": [each for each in examples if each.want],
        f"'{method.name}' has no oracle: @{kind}(\"{method.name}\") in tests/oracles": method.name in oracles,
    }
    return [what for what, there in checks.items() if not there]


def test_missing_parts_of_a_method_are_listed():
    bare = Method("bare", lambda activations, gradients: activations, "Bare", "", "")
    assert [line.partition(":")[0] for line in missing(bare)] == [
        "'bare' names no paper",
        "'bare' has no equation",
        "'bare' has no doctest with a value in its docstring",
        "'bare' has no oracle",
    ]


def test_oracles_are_for_methods_that_exist():
    assert set(ORACLES) <= set(METHODS)
    assert set(RUN_ORACLES) <= set(METHODS)


def test_methods_are_listed_in_decorator_order():
    order = [method.order for method in METHODS.values()]
    assert order == sorted(order)
    assert next(iter(METHODS)) == "gradcam"


def test_method_families_are_known():
    assert {method.family for method in METHODS.values()} < set(FAMILIES)


def test_oracles_do_not_import_saywhy():
    for file in (REPOSITORY / "tests" / "oracles").glob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("import saywhy", "from saywhy"))]


def test_custom_method_registers_and_duplicate_name_raises(monkeypatch):
    monkeypatch.setattr(METHODS, "_values", dict(METHODS))
    own = Method("brightness", lambda activations, gradients: activations.sum(1), "Brightness", "nobody, 2020", "Σₖ Aₖ")
    register(own)
    assert find_method("brightness") is own
    register(own)  # the same once more is no clash
    with pytest.raises(MethodError, match="there is a method 'gradcam' already"):
        register(Method("gradcam", own.function, "Mine", "nobody, 2020", "Σₖ Aₖ"))


def test_method_parameters_come_from_the_function_signature():
    assert METHODS["gradcam"].parameters == {"relu": True, "pooling": "mean"}
    assert METHODS["cam"].parameters == {"relu": False}


def test_methods_of_other_packages_are_found_and_listed(monkeypatch):
    own = Method("sharpness", lambda activations, gradients: activations.sum(1), "Sharpness", "nobody, 2020", "Σₖ Aₖ")
    monkeypatch.setattr(METHODS, "_values", dict(METHODS))
    monkeypatch.setattr("saywhy.registry.entry_points", lambda **_: [Entry(lambda: own)])
    assert find_method("sharpness") is own
    assert own in all_methods()


def test_broken_plugin_raises_by_name_and_is_skipped_with_warning(monkeypatch):
    monkeypatch.setattr(METHODS, "_values", dict(METHODS))
    monkeypatch.setattr("saywhy.registry.entry_points", lambda **_: [Entry(lambda: 1 / 0)])
    with pytest.raises(MethodError, match=r"'sharpness' of another package \(theirs:method\) cannot be loaded"):
        find_method("sharpness")
    assert find_method("gradcam") is METHODS["gradcam"]
    with pytest.warns(SaywhyWarning, match="'sharpness' of another package"):
        assert [method.name for method in all_methods()] == list(METHODS)  # ours are all there


class Entry:
    """As importlib.metadata has them."""

    name, value = "sharpness", "theirs:method"

    def __init__(self, load):
        self.load = load
