"""Simulated raters of stated behaviour, which test a study from end to end. They are no people, and are marked so."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from saywhy.errors import InputError
from saywhy.studies.answers import AnswerStore, StudyFull
from saywhy.studies.assignment import Shown
from saywhy.studies.study import LEAST, MOST, Study
from saywhy.validation import validate

Behaviour = Literal["perfect", "noisy", "lazy", "adversarial"]
"""
- perfect: the right class, or "clearly the better model";
- noisy: the right class three times of four; trust around 0.8 points with a deviation of 1.2;
- lazy: always the first answer on the page, attention checks too;
- adversarial: the wrong class, or "clearly the worse model"; passes attention checks.
"""

BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)

RIGHT, POINTS, SPREAD = 0.75, 0.8, 1.2
"""Of noisy raters: the share of right answers, and the mean and the deviation of their points."""


def choice_of(behaviour: Behaviour, shown: Shown, generator: np.random.Generator) -> int:
    """Return what a simulated rater chooses, as the item is shown.

    >>> from saywhy.studies.study import StudyItem
    >>> item = StudyItem("a", "a.jpg", "gradcam", ("a.png",), ("cat", "dog"), right=1)
    >>> choice_of("perfect", Shown(item, False), np.random.default_rng(0))
    1
    >>> choice_of("perfect", Shown(item, True), np.random.default_rng(0))
    0
    """
    item, options = shown.item, len(shown.item.options)
    if behaviour == "lazy":
        return 0 if options else MOST
    if item.is_check or behaviour == "perfect":
        wanted = MOST if item.right is None else item.right
    elif behaviour == "adversarial":
        wanted = LEAST if item.right is None else 1 - item.right
    elif item.right is None:
        wanted = int(np.clip(round(generator.normal(POINTS, SPREAD)), LEAST, MOST))
    else:
        wanted = item.right if generator.random() < RIGHT else 1 - item.right
    # The sides of an item are swapped by the same rule in both directions.
    return shown.answer(wanted)


def simulate(study: Study, behaviours: Sequence[Behaviour], seed: int = 0) -> AnswerStore:
    """Let simulated raters answer everything; return the store of their answers, which is not that of people.

    Raises:
        StudyFull: there are fewer free places than raters.
        InputError: there is no such behaviour, or none is given.
    """
    if not behaviours:
        raise InputError(f"name at least one behaviour of {', '.join(BEHAVIOURS)}.")
    for behaviour in behaviours:
        validate("behaviour", behaviour, Behaviour)
    store = AnswerStore(study, simulated=True)
    if (free := store.places()) < len(behaviours):
        raise StudyFull(f"{len(behaviours)} raters are to be simulated, but {free} places are free.")
    for number, behaviour in enumerate(behaviours):
        generator = np.random.default_rng([seed, number])
        key = store.join(f"simulated: {behaviour}")
        for shown in store.shown(key)[0]:
            store.add(key, shown.item.key, choice_of(behaviour, shown, generator), int(generator.integers(800, 9000)))
    return store
