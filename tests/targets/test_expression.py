"""Targets as they are written on the command line."""

from pathlib import Path

import pytest
import torch

from saywhy.errors import TargetError
from saywhy.output import ModelOutput
from saywhy.targets import (
    Certainty,
    Class,
    Finer,
    Sentence,
    Target,
    TargetList,
    TargetSum,
    Top,
    Uncertain,
    Words,
    find_target,
)
from saywhy.targets.expression import parse_target

LABELS = ["cat", "dog", "well-known mug", "rock - paper", "-40 °C", "7 dwarfs"]


@pytest.mark.parametrize("text", [*LABELS, "CAT", "Rock - Paper"])
def test_labels_with_operators_are_parsed_as_classes(text: str) -> None:
    assert parse_target(text, LABELS) == Class(text)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("cat - dog", ((1, "cat"), (-1, "dog"))),
        ("cat + dog", ((1, "cat"), (1, "dog"))),
        ("-cat", ((-1, "cat"),)),
        ("- cat", ((-1, "cat"),)),
        ("-cat + dog", ((-1, "cat"), (1, "dog"))),
        ("2 cat - 0.5 dog", ((2, "cat"), (-0.5, "dog"))),
        ("2*cat - 3 - 1", ((2, "cat"), (-1, 3), (-1, 1))),
        ("  well-known mug -  cat ", ((1, "well-known mug"), (-1, "cat"))),
        ("-2 cat", ((-2, "cat"),)),
        ("2 * 3", ((2, 3),)),
        ("cat - 7 dwarfs", ((1, "cat"), (-1, "7 dwarfs"))),
        ("cat - -40 °C", ((1, "cat"), (-1, "-40 °C"))),
    ],
)
def test_sums_are_parsed_into_weighted_terms(text: str, terms: tuple[tuple[float, str | int], ...]) -> None:
    assert parse_target(text, LABELS) == TargetSum(tuple((float(weight), Class(name)) for weight, name in terms))


@pytest.mark.parametrize("text", ["", " ", "-", "cat -  - dog", "- + cat"])
def test_malformed_targets_raise(text: str) -> None:
    with pytest.raises(TargetError, match="'cat - dog'"):
        parse_target(text, LABELS)


NAMED = ["cat", "dog", "top", "7", "maillot, tank suit", "crane (bird)", "entropy 3"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("top 3", Top(3)),
        ("top(2)", Top(2)),
        ("TOP 3", Top(3)),
        ("entropy", Uncertain("entropy")),
        ("aleatoric-variance", Uncertain("aleatoric_variance")),
        ("sentence", Sentence()),
        ("words", Words()),
        ("words(0, 2)", Words((0, 2))),
        ("class(dog)", Class("dog")),
        ("class(dog, probability)", Class("dog", "probability")),
        ("contrast(cat, 3)", Class("cat") - Class(3)),
        ("contrast(maillot, tank suit, cat)", Class("maillot, tank suit") - Class("cat")),
        ("counterfactual(cat)", -Class("cat")),
        ("list(cat, dog)", TargetList((Class("cat"), Class("dog")))),
        ("-entropy", -Uncertain("entropy")),
        ("2 entropy - 0.5 cat", 2.0 * Uncertain("entropy") - 0.5 * Class("cat")),
        ("entropy + crane (bird)", Uncertain("entropy") + Class("crane (bird)")),
        # What is a label is a label.
        ("top", Class("top")),
        ("class(top)", Class("top")),
        ("entropy 3", Class("entropy 3")),
        ("7", Class("7")),
        ("crane (bird)", Class("crane (bird)")),
        # Only a number may follow a name without brackets.
        ("top hat", Class("top hat")),
    ],
)
def test_named_targets_are_parsed(text: str, wanted: Target) -> None:
    assert parse_target(text, NAMED) == wanted


def test_named_targets_are_parsed_with_keyword_arguments() -> None:
    finer = parse_target("finer(maillot, tank suit, similar=2, alpha=0.5)", NAMED)
    assert isinstance(finer, Finer)
    assert (finer.target, finer.similar, finer.alpha) == (Class("maillot, tank suit"), 2, 0.5)
    among = parse_target("finer(cat, dog, weighted=true)", NAMED)
    assert isinstance(among, Finer)
    assert (among.similar, among.weighted) == (("dog",), True)
    certain = parse_target("certainty(7)", NAMED)  # the label, not the index
    assert isinstance(certain, Certainty)
    assert (certain.name, certain.with_classification_loss) == ("7", False)
    both = parse_target("ucam(2)", NAMED)
    assert isinstance(both, Certainty)
    assert (both.name, both.with_classification_loss) == (2, True)
    assert parse_target("per-sample(1, 0)", NAMED).classes.tolist() == [1, 0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("finer()", r"'finer' is written 'finer\(LABEL, similar=3, alpha=0.6\)': missing"),
        ("top(x)", "'x' is not a whole number: the target 'top' is written 'top K'"),
        ("entropy(3)", "'entropy' is written 'entropy': too many"),
        ("finer(cat, depth=3)", "'finer' has no 'depth'"),
        ("finer(cat, alpha=x)", "'x' is not a number: the target 'finer' is written"),
        ("words(cat)", "'cat' is not a whole number"),
        ("per-sample()", "needs a class for every sample"),
        ("function(nothing.py:f)", "no file 'nothing.py'"),
    ],
)
def test_named_targets_with_wrong_arguments_raise(text: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        parse_target(text, NAMED)


def test_function_target_is_loaded_from_a_file(tmp_path: Path) -> None:
    file, logits = tmp_path / "scores.py", torch.tensor([[1.0, 3.0]])
    file.write_text("def total(output):\n    return output.sum(1)\n\nnumber = 3\n")
    found = parse_target(f"function({file}:total)", NAMED)
    assert found.evaluate(ModelOutput(logits, raw=logits)).scores.tolist() == [[4.0]]
    with pytest.raises(TargetError, match=r"scores\.py has no function 'number'"):
        parse_target(f"function({file}:number)", NAMED)
    file.write_text("1 / 0")
    with pytest.raises(TargetError, match=r"scores\.py failed: ZeroDivisionError"):
        parse_target(f"function({file}:total)", NAMED)


def test_unknown_name_raises_with_nearest_name() -> None:
    with pytest.raises(TargetError, match=r"no target 'entrpy'\. Nearest: 'entropy'"):
        find_target("entrpy")
