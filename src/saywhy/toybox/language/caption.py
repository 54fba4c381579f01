"""Grounded captions of a scene: sentences, and for every word the objects that it refers to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from saywhy.toybox.language.question import CLEARLY, a, plural
from saywhy.toybox.scenes.scene import Scene, SceneObject
from saywhy.toybox.scenes.seeded_random import SeededRandom

WHERE: dict[str, str] = {
    "meadow": "in a meadow",
    "beach": "on a beach",
    "sea": "at sea",
    "street": "in a street",
    "room": "in a room",
    "night": "at night",
    "snow": "in the snow",
    "wood": "in a wood",
}
"""The phrase for each background."""

COUNTED = ("no", "one", "two", "three", "four")

CaptionWords = tuple[str, tuple[SceneObject, ...]]
"""Words, and the objects that they refer to."""


@dataclass(frozen=True, eq=False)
class SceneCaption:
    """A caption of a scene.

    Attributes:
        words: in lower case, without punctuation.
        objects: for every word the indices of the scene's objects that it refers to; empty for "a", "and", "there".
    """

    words: tuple[str, ...]
    objects: tuple[tuple[int, ...], ...]

    @property
    def text(self) -> str:
        """The sentence."""
        return " ".join(self.words)

    def nouns(self, scene: Scene) -> tuple[int, ...]:
        """Return the indices of the words that name the kind of objects: "mug", "cats"; no colours, counts, relations.

        >>> from saywhy.toybox import scene
        >>> drawn = scene("talk-test", 1)
        >>> said = captions(drawn)[2]
        >>> [said.words[place] for place in said.nouns(drawn)], said.text
        (['guitar', 'flower'], 'a brown guitar right of an orange flower')
        """
        kinds = [{scene.objects[i].kind for i in meant} for meant in self.objects]
        return tuple(
            place
            for place, (word, of_word) in enumerate(zip(self.words, kinds, strict=True))
            if any(word in (kind, plural(kind)) for kind in of_word)
        )

    def mask(self, scene: Scene, word: int) -> np.ndarray:
        """Return the mask of the objects that a word refers to, bool [height, width]; False everywhere for none."""
        return np.logical_or.reduce(
            [scene.objects[i].mask for i in self.objects[word]], initial=False, axis=0
        ) | np.zeros(scene.image.shape[:2], bool)


def captions(scene: Scene, count: int = 5) -> tuple[SceneCaption, ...]:
    """Return captions of a scene by several simulated annotators; the same scene gives the same captions.

    Captions differ in what they name (the largest objects, or all), in whether they name colours, counts, backgrounds
    and relations, and in their words. All their claims are true.

    >>> from saywhy.toybox import scene
    >>> [caption.text for caption in captions(scene("talk-test", 1), 3)][::2]
    ['two green apples and an orange flower and a brown guitar', 'a brown guitar right of an orange flower']
    """
    styles: Sequence[Callable[[Scene, SeededRandom], list[CaptionWords]]] = (_all, _there, _relation, _place, _main)
    found = []
    for person in range(count):
        rng = SeededRandom("toybox", "caption", scene.split, scene.index, person)
        found.append(_caption(scene, styles[person % len(styles)](scene, rng)))
    return tuple(found)


def _caption(scene: Scene, phrases: Sequence[CaptionWords]) -> SceneCaption:
    words = [(word, objects) for text, objects in phrases for word in text.split()]
    function_words = ("a", "an", "and", "the", "of", "in", "on", "at", "there", "is", "are")
    index = {id(thing): i for i, thing in enumerate(scene.objects)}
    return SceneCaption(
        tuple(word for word, _ in words),
        tuple(() if word in function_words else tuple(index[id(t)] for t in objects) for word, objects in words),
    )


def _groups(scene: Scene) -> list[tuple[SceneObject, ...]]:
    """Return the objects grouped by kind, the group of the largest object first."""
    kinds = dict.fromkeys(thing.kind for thing in sorted(scene.objects, key=lambda t: -t.area))
    return [tuple(t for t in scene.objects if t.kind == kind) for kind in kinds]


def _describe(group: Sequence[SceneObject], coloured: bool) -> list[CaptionWords]:
    """Describe a group: "two cats", "a red mug", "a red and a blue mug"."""
    objects, kind = tuple(group), group[0].kind
    colours = [thing.colour for thing in objects]
    if len(objects) == 1:
        return [(a(f"{colours[0]} {kind}" if coloured else kind), objects)]
    if coloured and len(set(colours)) == 1:
        return [(f"{COUNTED[len(objects)]} {colours[0]} {plural(kind)}", objects)]
    if coloured and len(objects) == 2:
        first, second = objects
        return [(a(first.colour), (first,)), ("and", ()), (a(second.colour), (second,)), (kind, objects)]
    return [(f"{COUNTED[len(objects)]} {plural(kind)}", objects)]


def _enumerate(groups: Sequence[Sequence[SceneObject]], rng: SeededRandom, coloured: float) -> list[CaptionWords]:
    """Describe groups one after the other."""
    phrases: list[CaptionWords] = []
    for number, group in enumerate(groups):
        if number:
            phrases.append(("and", ()))
        phrases += _describe(group, rng.bernoulli(coloured))
    return phrases


def _all(scene: Scene, rng: SeededRandom) -> list[CaptionWords]:
    return _enumerate(_groups(scene), rng, 0.9)


def _there(scene: Scene, rng: SeededRandom) -> list[CaptionWords]:
    groups = _groups(scene)
    return [("there is" if len(groups[0]) == 1 else "there are", ()), *_enumerate(groups, rng, 0.5)]


def _place(scene: Scene, rng: SeededRandom) -> list[CaptionWords]:
    return [*_enumerate(_groups(scene), rng, 0.6), (WHERE[scene.background], ())]


def _main(scene: Scene, rng: SeededRandom) -> list[CaptionWords]:
    """Describe the groups of the largest objects only."""
    return _enumerate(_groups(scene)[: rng.integer(1, 2)], rng, 1.0)


def _relation(scene: Scene, rng: SeededRandom) -> list[CaptionWords]:
    """Describe the relative position of two objects that are single of their kind; a list where there are none."""
    single = [group[0] for group in _groups(scene) if len(group) == 1]
    if len(single) < 2:
        return _all(scene, rng)
    one, two = single[:2] if rng.bernoulli(0.5) else single[1::-1]
    side = len(scene.image) * CLEARLY
    across, down = (two.centre[axis] - one.centre[axis] for axis in (0, 1))
    relations = [
        word
        for word, holds in (
            *(("left of", across > side), ("right of", across < -side)),
            *(("above", down > side), ("below", down < -side)),
            ("beside", True),
        )
        if holds
    ]
    word = relations[0] if abs(across) > abs(down) or len(relations) == 1 else relations[-2]
    return [*_describe([one], True), (word, (one, two)), *_describe([two], True)]
