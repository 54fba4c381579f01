"""What people say of a scene: sentences about its things, and for every word the things that it speaks of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from saywhy.toybox.language.question import CLEARLY, a, plural
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.scene import Scene, SceneObject

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
"""How one says where a scene is."""

COUNTED = ("no", "one", "two", "three", "four")

CaptionWords = tuple[str, tuple[SceneObject, ...]]
"""Words, and the things that they speak of."""


@dataclass(frozen=True, eq=False)
class SceneCaption:
    """A sentence about a scene.

    Attributes:
        words: in small letters, without signs.
        objects: for every word the indices of the scene's things that it speaks of; none for "a", "and", "there".
    """

    words: tuple[str, ...]
    objects: tuple[tuple[int, ...], ...]

    @property
    def text(self) -> str:
        """The sentence."""
        return " ".join(self.words)

    def mask(self, scene: Scene, word: int) -> np.ndarray:
        """bool [height, width]: where the things are of which a word speaks; False everywhere for the others."""
        return np.logical_or.reduce(
            [scene.objects[i].mask for i in self.objects[word]], initial=False, axis=0
        ) | np.zeros(scene.image.shape[:2], bool)


def captions(scene: Scene, count: int = 5) -> tuple[SceneCaption, ...]:
    """Several sentences about a scene, each by another person: the same whenever the same scene is described.

    They differ in what they name (the largest things, or all), in whether they name colours, counts, places and
    relations, and in their words. What they say is true.

    >>> from saywhy.toybox import scene
    >>> [caption.text for caption in captions(scene("talk-test", 1), 3)][::2]
    ['two green apples and an orange flower and a brown guitar', 'a brown guitar right of an orange flower']
    """
    styles: Sequence[Callable[[Scene, Dice], list[CaptionWords]]] = (_all, _there, _relation, _place, _main)
    found = []
    for person in range(count):
        dice = Dice("toybox", "caption", scene.split, scene.index, person)
        found.append(_caption(scene, styles[person % len(styles)](scene, dice)))
    return tuple(found)


def _caption(scene: Scene, said: Sequence[CaptionWords]) -> SceneCaption:
    spoken = [(word, objects) for text, objects in said for word in text.split()]
    silent = ("a", "an", "and", "the", "of", "in", "on", "at", "there", "is", "are")
    index = {id(thing): i for i, thing in enumerate(scene.objects)}
    return SceneCaption(
        tuple(word for word, _ in spoken),
        tuple(() if word in silent else tuple(index[id(t)] for t in objects) for word, objects in spoken),
    )


def _groups(scene: Scene) -> list[tuple[SceneObject, ...]]:
    """Things of one kind together, those that cover most of the image first."""
    kinds = dict.fromkeys(thing.kind for thing in sorted(scene.objects, key=lambda t: -t.area))
    return [tuple(t for t in scene.objects if t.kind == kind) for kind in kinds]


def _named(group: Sequence[SceneObject], coloured: bool) -> list[CaptionWords]:
    """A group in words: "two cats", "a red mug", "a red and a blue mug"."""
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


def _listed(groups: Sequence[Sequence[SceneObject]], dice: Dice, coloured: float) -> list[CaptionWords]:
    """Groups one after the other."""
    said: list[CaptionWords] = []
    for number, group in enumerate(groups):
        if number:
            said.append(("and", ()))
        said += _named(group, dice.chance(coloured))
    return said


def _all(scene: Scene, dice: Dice) -> list[CaptionWords]:
    return _listed(_groups(scene), dice, 0.9)


def _there(scene: Scene, dice: Dice) -> list[CaptionWords]:
    groups = _groups(scene)
    return [("there is" if len(groups[0]) == 1 else "there are", ()), *_listed(groups, dice, 0.5)]


def _place(scene: Scene, dice: Dice) -> list[CaptionWords]:
    return [*_listed(_groups(scene), dice, 0.6), (WHERE[scene.background], ())]


def _main(scene: Scene, dice: Dice) -> list[CaptionWords]:
    """Only what covers most of the image."""
    return _listed(_groups(scene)[: dice.whole(1, 2)], dice, 1.0)


def _relation(scene: Scene, dice: Dice) -> list[CaptionWords]:
    """Two single things, and how one lies to the other; a list where there are none."""
    single = [group[0] for group in _groups(scene) if len(group) == 1]
    if len(single) < 2:
        return _all(scene, dice)
    one, two = single[:2] if dice.chance(0.5) else single[1::-1]
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
    return [*_named([one], True), (word, (one, two)), *_named([two], True)]
