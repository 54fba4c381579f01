"""The errors: one tree, as its page draws it, and suggestions that are worth following."""

import inspect
import re

import pytest

from saywhy import errors
from saywhy.errors import SaywhyError, SaywhyWarning, nearest


def error_classes() -> dict[str, type[SaywhyError]]:
    """Every error that the module defines."""
    return {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, SaywhyError) and kind.__module__ == errors.__name__
    }


def drawn_tree() -> dict[str, str | None]:
    """The tree in the module's docstring: each error and its parent."""
    found: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ]*(?:[├└]── )?)([A-Z]\w+)(  |$)", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            found[match[2]] = path[depth - 1] if depth else None
    return found


def test_error_tree_in_docstring_equals_the_classes() -> None:
    there = {
        name: kind.__bases__[0].__name__ if kind is not SaywhyError else None for name, kind in error_classes().items()
    }
    assert drawn_tree() == there


@pytest.mark.parametrize("name", error_classes())
def test_error_classes_have_docstrings(name: str) -> None:
    assert (error_classes()[name].__doc__ or "").strip().endswith(".")


def test_saywhy_warning_is_a_user_warning_and_no_error() -> None:
    assert issubclass(SaywhyWarning, UserWarning)
    assert not issubclass(SaywhyWarning, SaywhyError)


@pytest.mark.parametrize(
    ("word", "known", "wanted"),
    [
        ("tigger cat", ["tiger", "tiger cat", "tabby"], "tiger cat"),
        ("GRADCAM", ["gradcam", "gradcam++"], "gradcam"),
        ("layer5", ["layer1", "layer4", "layer5.0"], "layer5.0"),
        ("resnet5", ["resnet50", "alexnet"], "resnet50"),
    ],
)
def test_nearest_puts_the_closest_name_first(word: str, known: list[str], wanted: str) -> None:
    assert nearest(word, known)[0] == wanted


def test_nearest_returns_nothing_for_unrelated_words() -> None:
    assert nearest("qqqqq", ["cat", "dog"]) == []
    assert nearest("cat", []) == []
    assert nearest("", ["cat"]) == []
