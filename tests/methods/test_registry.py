"""Every method of the registry is documented, referenced and judged by an oracle."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

from oracles import ORACLES, RUN_ORACLES
from saywhy.errors import MethodError
from saywhy.methods import METHODS, Method, all_methods, find_method, register

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", METHODS)
class TestEveryEntry:
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


def test_oracles_are_for_methods_that_exist():
    assert set(ORACLES) <= set(METHODS)


def test_oracles_do_not_know_saywhy():
    for file in (REPOSITORY / "tests" / "oracles").glob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("import saywhy", "from saywhy"))]


def test_a_method_of_ones_own_joins_and_does_not_displace(monkeypatch):
    monkeypatch.setattr("saywhy.methods.registry.METHODS", dict(METHODS))
    own = Method("brightness", lambda activations, gradients: activations.sum(1), "Brightness", "nobody, 2020", "Σₖ Aₖ")
    register(own)
    assert find_method("brightness") is own
    register(own)  # the same once more is no clash
    with pytest.raises(MethodError, match="there is a method 'gradcam' already"):
        register(Method("gradcam", own.function, "Mine", "nobody, 2020", "Σₖ Aₖ"))


def test_parameters_are_read_off_the_function():
    assert METHODS["gradcam"].parameters == {"relu": True, "pooling": "mean"}
    assert METHODS["cam"].parameters == {"relu": False}


def test_methods_of_other_packages_are_found_and_listed(monkeypatch):
    own = Method("sharpness", lambda activations, gradients: activations.sum(1), "Sharpness", "nobody, 2020", "Σₖ Aₖ")
    monkeypatch.setattr("saywhy.methods.registry.METHODS", dict(METHODS))
    monkeypatch.setattr("saywhy.methods.registry.entry_points", lambda group: [Entry(lambda: own)])
    assert find_method("sharpness") is own
    assert own in all_methods()


def test_a_package_that_is_broken_is_named(monkeypatch):
    monkeypatch.setattr("saywhy.methods.registry.METHODS", dict(METHODS))
    monkeypatch.setattr("saywhy.methods.registry.entry_points", lambda group: [Entry(lambda: 1 / 0)])
    with pytest.raises(MethodError, match=r"'sharpness' of another package \(theirs:method\) cannot be loaded"):
        find_method("sharpness")
    assert find_method("gradcam") is METHODS["gradcam"]


class Entry:
    """As importlib.metadata has them."""

    name, value = "sharpness", "theirs:method"

    def __init__(self, load):
        self.load = load
