"""Numbers of more digits than Python converts, and digits that are no decimal ones, are refused in words."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import saywhy
from oracles.networks import TinyNetwork
from saywhy.concepts.textual import names_of
from saywhy.errors import SaywhyError
from saywhy.metrics import measure
from saywhy.targets.expression import parse_target

LONG = "9" * 5000
HUGE = 10**5000


def explained(target: Any = 0, **settings: Any) -> saywhy.Explanation:
    return saywhy.explain(TinyNetwork.build(head="mlp"), torch.ones(1, 3, 12, 12), target, **settings)


CALLS: dict[str, Callable[[], Any]] = {
    "a class by index": lambda: explained(HUGE),
    "a class by a negative index": lambda: explained(-HUGE),
    "a class by its number in words": lambda: explained(LONG),
    "a class by a superscript": lambda: explained("²"),
    "a class by a superscript on the command line": lambda: explained(parse_target("²", ())),
    "a class on the command line": lambda: explained(parse_target(LONG, ())),
    "output by position": lambda: explained(output=HUGE),
    "output by name": lambda: explained(output=LONG),
    "a method": lambda: explained(method=HUGE),
    "a layer": lambda: explained(layer=HUGE),
    "fusion": lambda: explained().fuse(HUGE),  # type: ignore[arg-type]
    "a metric": lambda: measure(explained(), HUGE),  # type: ignore[arg-type]
    "the channel of a concept": lambda: names_of({LONG: "fur"}),
    "the channel of a concept by index": lambda: names_of({HUGE: "fur"}),
}


@pytest.mark.parametrize("case", CALLS)
def test_an_unreadable_number_is_refused(case: str) -> None:
    with pytest.raises(SaywhyError) as caught:
        CALLS[case]()
    assert "Exceeds the limit" not in str(caught.value)
    assert "invalid literal" not in str(caught.value)
