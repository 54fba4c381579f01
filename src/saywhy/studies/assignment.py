"""Which rater sees what: balanced and randomised."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saywhy.errors import InputError
from saywhy.studies.study import Study, StudyDesign, StudyItem

LINK = 16
"""Bytes of the random part of a study's link."""

RaterBlock = tuple[tuple[str, bool], ...]
"""What a rater sees, in order: keys of items and attention checks, and whether both sides are swapped."""


@dataclass(frozen=True)
class Shown:
    """An item as a rater sees it.

    Attributes:
        item: the item or attention check.
        swapped: whether its two options, or its two models, change places.
    """

    item: StudyItem
    swapped: bool

    def answer(self, choice: int) -> int:
        """Return the answer of a choice as it was shown: with both sides in their order in the study.

        >>> item = StudyItem("a", "a.jpg", "gradcam", ("1.png", "2.png"))
        >>> Shown(item, True).answer(2), Shown(item, False).answer(2)
        (-2, 2)
        """
        if not self.swapped:
            return choice
        return len(self.item.options) - 1 - choice if self.item.options else -choice


def new_study(
    design: StudyDesign,
    items: Sequence[StudyItem],
    checks: Sequence[StudyItem],
    folder: Path,
    provenance: dict[str, Any],
) -> Study:
    """Return a study with a new link, its items assigned.

    Raises:
        InputError: there are too few items, or too few attention checks.
    """
    check_numbers(design, len(items), len(checks))
    blocks = assign(design, items, checks)
    return Study(design, tuple(items), tuple(checks), blocks, secrets.token_urlsafe(LINK), folder, provenance)


def check_numbers(design: StudyDesign, items: int, checks: int) -> None:
    """Check that there are enough items and attention checks for a rater.

    Raises:
        InputError: there are not.
    """
    if items < design.items_per_rater:
        raise InputError(
            f"each rater is to see {design.items_per_rater} items, but the study has {items}. Take more images, or "
            "fewer items a rater."
        )
    if checks < design.attention_checks:
        raise InputError(f"the design asks for {design.attention_checks} attention checks; there are {checks}.")


def shown_to(study: Study, place: int) -> tuple[Shown, ...]:
    """Return what the rater at a place sees, in order."""
    items = {one.key: one for one in (*study.items, *study.checks)}
    return tuple(Shown(items[key], swapped) for key, swapped in study.blocks[place])


def assign(design: StudyDesign, items: Sequence[StudyItem], checks: Sequence[StudyItem]) -> tuple[RaterBlock, ...]:
    """Return what each rater sees.

    Every item is seen by as many raters as any other, but for one. A rater sees an item at most once, and an image and
    a method as seldom as this allows. The two sides of an item change places for every second of its raters. Attention
    checks stand between the items, the first one not before the second item, and are not swapped. It depends on the
    seed of the design only.
    """
    generator = np.random.default_rng(design.seed)
    seen, turns = np.zeros(len(items), dtype=int), generator.integers(0, 2, len(items))
    images, methods = (
        np.unique([getattr(one, name) for one in items], return_inverse=True)[1] for name in ("image", "method")
    )
    blocks = []
    for rater in range(design.raters):
        own = _block(seen, images, methods, design.items_per_rater, generator)
        shown = [(items[n].key, bool((turns[n] + seen[n]) % 2)) for n in own]
        seen[own] += 1
        chosen = [checks[(rater + n) % len(checks)] for n in range(design.attention_checks)]
        for number, one in enumerate(chosen):
            low = 2 + number * len(shown) // (len(chosen) + 1)
            place = min(len(shown), int(generator.integers(low, low + max(1, len(shown) // (len(chosen) + 1)))))
            shown.insert(place, (one.key, False))
        blocks.append(tuple(shown))
    return tuple(blocks)


def _block(
    seen: np.ndarray, images: np.ndarray, methods: np.ndarray, size: int, generator: np.random.Generator
) -> list[int]:
    """Return the items of a rater: those seen least; among them, of the images and methods this rater sees least."""
    by_image, by_method = np.zeros(images.max() + 1, dtype=int), np.zeros(methods.max() + 1, dtype=int)
    left, chosen = np.ones(len(seen), dtype=bool), []
    for _ in range(size):
        keys = (generator.random(len(seen)), by_method[methods], by_image[images], seen, ~left)
        best = int(np.lexsort(keys)[0])
        chosen.append(best)
        left[best] = False
        by_image[images[best]] += 1
        by_method[methods[best]] += 1
    generator.shuffle(chosen)
    return chosen
