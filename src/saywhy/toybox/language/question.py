"""Questions about a scene: their types, their words, their answers, and what one must look at to answer them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene, SceneObject

NUMBERS = ("0", "1", "2", "3", "4")
ANSWERS: tuple[str, ...] = ("yes", "no", *NUMBERS, *COLOURS, *KINDS)
"""All that can be answered in Toybox."""

CLEARLY = 0.06
"""Of the image's side: by so much one centre lies beyond another where a question calls it left of or above it."""

EQUAL, DIFFERENT = 0.8, 0.7
"""So often the commonest cases that are answered by no are not asked about, so that yes is as frequent."""

LARGER = 1.3
"""By this factor the largest (smallest) thing is larger (smaller) than the next."""


@dataclass(frozen=True, eq=False)
class SceneQuestion:
    """A question about a scene.

    Attributes:
        type: one of ``TYPES``.
        text: in small letters, with a question mark.
        answer: one of ``ANSWERS``.
        evidence: bool [height, width], True on all the things that question and answer speak of; on all things of the
            scene where neither names one that is there ("is there a cat?" "no").
    """

    type: str
    text: str
    answer: str
    evidence: np.ndarray


@dataclass(frozen=True)
class _Asked:
    """A question before its evidence is drawn: the things that it speaks of."""

    text: str
    answer: str
    about: tuple[SceneObject, ...] = ()


def ask(scene: Scene, type: str, dice: Dice) -> SceneQuestion | None:
    """One question of a type; None where this scene has none to offer (or the dice do not want it).

    The dice choose the answer first where they can, so that it cannot be guessed from the question.
    """
    asked = TYPES[type](scene, dice)
    if asked is None:
        return None
    objects = asked.about or scene.objects
    return SceneQuestion(type, asked.text, asked.answer, np.logical_or.reduce([thing.mask for thing in objects]))


def plural(kind: str) -> str:
    """More than one of a kind.

    >>> plural("bus"), plural("fish"), plural("cat")
    ('buses', 'fish', 'cats')
    """
    return kind if kind == "fish" else kind + ("es" if kind.endswith("s") else "s")


def a(noun: str) -> str:
    """With its article.

    >>> a("orange cat"), a("bus")
    ('an orange cat', 'a bus')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def names(scene: Scene) -> list[tuple[str, SceneObject]]:
    """Every thing that a name fits alone, with that name: its kind, or its colour and kind."""
    kinds = [thing.kind for thing in scene.objects]
    pairs = [(thing.colour, thing.kind) for thing in scene.objects]
    named = []
    for thing in scene.objects:
        if kinds.count(thing.kind) == 1:
            named.append((thing.kind, thing))
        elif pairs.count((thing.colour, thing.kind)) == 1:
            named.append((f"{thing.colour} {thing.kind}", thing))
    return named


def _exists(scene: Scene, dice: Dice) -> _Asked | None:
    """Is there such a thing? Half of the questions to which the answer is no name a kind or a colour that is there."""
    coloured = dice.chance(0.5)
    there = [f"{t.colour} {t.kind}" if coloured else t.kind for t in scene.objects]
    if dice.chance(0.5):
        noun = dice.pick(there)
        about = tuple(t for t, name in zip(scene.objects, there, strict=True) if name == noun)
        return _Asked(dice.pick((f"is there {a(noun)}?", f"do you see {a(noun)}?")), "yes", about)
    thing = dice.pick(scene.objects)
    if coloured:
        near = [f"{colour} {thing.kind}" for colour in COLOURS] + [f"{thing.colour} {kind}" for kind in KINDS]
    else:
        near = list(KINDS)
    noun = dice.pick([name for name in near if name not in there])
    return _Asked(dice.pick((f"is there {a(noun)}?", f"do you see {a(noun)}?")), "no")


def _count(scene: Scene, dice: Dice) -> _Asked | None:
    """How many are there? Of a kind, of a colour, or in all."""
    groups: dict[str, tuple[SceneObject, ...]] = {"things": scene.objects}
    for kind in KINDS:
        groups[plural(kind)] = tuple(t for t in scene.objects if t.kind == kind)
    for colour in COLOURS:
        groups[f"{colour} things"] = tuple(t for t in scene.objects if t.colour == colour)
    wanted = dice.pick((0, 1, 2, 2, 2, 3, 3, 3, 4, 4))
    fitting = [name for name, objects in groups.items() if len(objects) == wanted]
    if not fitting:
        return None
    name = dice.pick(fitting)
    return _Asked(dice.pick((f"how many {name} are there?", f"how many {name} do you see?")), str(wanted), groups[name])


def _colour(scene: Scene, dice: Dice) -> _Asked | None:
    kinds = [thing.kind for thing in scene.objects]
    single = [thing for thing in scene.objects if kinds.count(thing.kind) == 1]
    if not single:
        return None
    thing = dice.pick(single)
    text = dice.pick((f"what colour is the {thing.kind}?", f"which colour has the {thing.kind}?"))
    return _Asked(text, thing.colour, (thing,))


def _kind(scene: Scene, dice: Dice) -> _Asked | None:
    colours = [thing.colour for thing in scene.objects]
    single = [thing for thing in scene.objects if colours.count(thing.colour) == 1]
    if not single:
        return None
    thing = dice.pick(single)
    text = dice.pick((f"what is the {thing.colour} thing?", f"what is {thing.colour}?"))
    return _Asked(text, thing.kind, (thing,))


def _dataset_metrics(words: tuple[str, str], axis: int) -> Callable[[Scene, Dice], _Asked | None]:
    """Questions of what lies on one side of what: yes or no, or which."""

    def question(scene: Scene, dice: Dice) -> _Asked | None:
        side = len(scene.image) * CLEARLY
        turned = dice.chance(0.5)
        first, sign = words[turned], -1 if turned else 1
        if dice.chance(0.5):
            return _which(scene, first, sign, axis, side, dice)
        yes = dice.chance(0.5)
        pairs = []
        for one, other in permutations(names(scene), 2):
            by = sign * (other[1].centre[axis] - one[1].centre[axis])
            if abs(by) > side and (by > 0) == yes:
                pairs.append((one, other))
        if not pairs:
            return None
        (x, thing), (y, beside) = dice.pick(pairs)
        return _Asked(f"is the {x} {first} the {y}?", "yes" if yes else "no", (thing, beside))

    return question


def _which(scene: Scene, word: str, sign: int, axis: int, side: float, dice: Dice) -> _Asked | None:
    """What lies on that side of something: where it is one thing alone, and all others clearly lie elsewhere."""
    found = []
    for name, thing in names(scene):
        beyond = [sign * (thing.centre[axis] - other.centre[axis]) for other in scene.objects if other is not thing]
        others = [other for other in scene.objects if other is not thing]
        there = [other for other, by in zip(others, beyond, strict=True) if by > 0]
        if len(there) == 1 and all(abs(by) > side for by in beyond):
            found.append((name, thing, there[0]))
    if not found:
        return None
    name, thing, other = dice.pick(found)
    return _Asked(f"what is {word} the {name}?", other.kind, (other, thing))


def _compare(scene: Scene, dice: Dice) -> _Asked | None:
    """Are there more of these than of those?"""
    counts = {kind: sum(t.kind == kind for t in scene.objects) for kind in KINDS}
    there = [kind for kind in KINDS if counts[kind]]
    more = dice.chance(0.5)
    pairs = [(x, y) for x, y in permutations(there, 2) if (counts[x] > counts[y]) == more]
    if more and not pairs:
        return None
    if not more and dice.chance(EQUAL) and not any(counts[x] < counts[y] for x, y in pairs):
        return None  # one of each is the usual case: too easy a no
    if not pairs:
        return None
    x, y = dice.pick(pairs)
    about = tuple(t for t in scene.objects if t.kind in (x, y))
    return _Asked(f"are there more {plural(x)} than {plural(y)}?", "yes" if more else "no", about)


def _same_colour(scene: Scene, dice: Dice) -> _Asked | None:
    same = dice.chance(0.5)
    if not same and dice.chance(DIFFERENT):
        return None
    pairs = [(x, y) for x, y in permutations(names(scene), 2) if (x[1].colour == y[1].colour) == same]
    pairs = [(x, y) for x, y in pairs if " " not in x[0] and " " not in y[0]]  # "the red cat" would give it away
    if not pairs:
        return None
    (x, one), (y, other) = dice.pick(pairs)
    text = dice.pick((f"do the {x} and the {y} have the same colour?", f"is the {x} of the same colour as the {y}?"))
    return _Asked(text, "yes" if same else "no", (one, other))


def _extreme(word: str, largest: bool) -> Callable[[Scene, Dice], _Asked | None]:
    def question(scene: Scene, dice: Dice) -> _Asked | None:
        ordered = sorted(scene.objects, key=lambda thing: thing.area, reverse=largest)
        if len(ordered) < 2:
            return None
        first, second = ordered[0].area, ordered[1].area
        if max(first, second) < LARGER * min(first, second):
            return None
        return _Asked(f"what is the {word} thing?", ordered[0].kind, (ordered[0],))

    return question


TYPES: dict[str, Callable[[Scene, Dice], _Asked | None]] = {
    "exists": _exists,
    "count": _count,
    "colour": _colour,
    "kind": _kind,
    "left-right": _dataset_metrics(("left of", "right of"), 0),
    "above-below": _dataset_metrics(("above", "below"), 1),
    "compare": _compare,
    "same-colour": _same_colour,
    "largest": _extreme("largest", largest=True),
    "smallest": _extreme("smallest", largest=False),
}
"""The types of questions, and how each is asked."""
