"""Targets as they are written on the command line."""

import pytest

from saywhy.cli.expression import parse_target
from saywhy.errors import TargetError
from saywhy.targets import Class, TargetSum

LABELS = ["cat", "dog", "well-known mug", "rock - paper", "-40 °C", "7 dwarfs"]


@pytest.mark.parametrize("text", [*LABELS, "CAT", "Rock - Paper"])
def test_a_label_is_that_label_signs_and_all(text: str) -> None:
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
def test_sums(text: str, terms: tuple[tuple[float, str | int], ...]) -> None:
    assert parse_target(text, LABELS) == TargetSum(tuple((float(weight), Class(name)) for weight, name in terms))


@pytest.mark.parametrize("text", ["", " ", "-", "cat -  - dog", "- + cat"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(TargetError, match="'cat - dog'"):
        parse_target(text, LABELS)
