"""Questions about a scene: types, texts, answers and visual evidence."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene, SceneObject
from saywhy.toybox.scenes.seeded_random import SeededRandom

NUMBERS = ("0", "1", "2", "3", "4")
ANSWERS: tuple[str, ...] = ("yes", "no", *NUMBERS, *COLOURS, *KINDS)
"""All answers in Toybox."""

CLEARLY = 0.06
"""The minimum distance of two centres for a question about left, right, above or below, as a share of the side."""

EQUAL, DIFFERENT = 0.8, 0.7
"""Probabilities to skip the most frequent questions with the answer no, so that yes is as frequent."""

LARGER = 1.3
"""The minimum ratio of areas between the largest (smallest) object and the next."""


@dataclass(frozen=True, eq=False)
class SceneQuestion:
    """A question about a scene.

    Attributes:
        type: one of ``TYPES``.
        text: in lower case, with a question mark.
        answer: one of ``ANSWERS``.
        evidence: bool [height, width], True on all objects that question and answer refer to, or on all objects of the
            scene where they refer to none ("is there a cat?" "no").
    """

    type: str
    text: str
    answer: str
    evidence: np.ndarray


@dataclass(frozen=True)
class _QuestionDraft:
    """A question without its evidence mask: the objects that it refers to."""

    text: str
    answer: str
    about: tuple[SceneObject, ...] = ()


def ask(scene: Scene, type: str, rng: SeededRandom) -> SceneQuestion | None:
    """Return one question of a type; None where the scene allows none, or where it is skipped for balance.

    Where possible the answer is sampled first, so that it cannot be guessed from the question.
    """
    draft = TYPES[type](scene, rng)
    if draft is None:
        return None
    objects = draft.about or scene.objects
    return SceneQuestion(type, draft.text, draft.answer, np.logical_or.reduce([one.mask for one in objects]))


def plural(kind: str) -> str:
    """Return the plural of a kind.

    >>> plural("bus"), plural("fish"), plural("cat")
    ('buses', 'fish', 'cats')
    """
    return kind if kind == "fish" else kind + ("es" if kind.endswith("s") else "s")


def a(noun: str) -> str:
    """Return a noun with its article.

    >>> a("orange cat"), a("bus")
    ('an orange cat', 'a bus')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def names(scene: Scene) -> list[tuple[str, SceneObject]]:
    """Return every object with a unique name, and that name: its kind, or its colour and kind."""
    kinds = [thing.kind for thing in scene.objects]
    pairs = [(thing.colour, thing.kind) for thing in scene.objects]
    named = []
    for thing in scene.objects:
        if kinds.count(thing.kind) == 1:
            named.append((thing.kind, thing))
        elif pairs.count((thing.colour, thing.kind)) == 1:
            named.append((f"{thing.colour} {thing.kind}", thing))
    return named


def _exists(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
    """Is there such an object? Half of the questions with the answer no name a kind or a colour of the scene."""
    coloured = rng.bernoulli(0.5)
    there = [f"{t.colour} {t.kind}" if coloured else t.kind for t in scene.objects]
    if rng.bernoulli(0.5):
        noun = rng.choice(there)
        about = tuple(t for t, name in zip(scene.objects, there, strict=True) if name == noun)
        return _QuestionDraft(rng.choice((f"is there {a(noun)}?", f"do you see {a(noun)}?")), "yes", about)
    thing = rng.choice(scene.objects)
    if coloured:
        near = [f"{colour} {thing.kind}" for colour in COLOURS] + [f"{thing.colour} {kind}" for kind in KINDS]
    else:
        near = list(KINDS)
    noun = rng.choice([name for name in near if name not in there])
    return _QuestionDraft(rng.choice((f"is there {a(noun)}?", f"do you see {a(noun)}?")), "no")


def _count(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
    """How many objects are there: of a kind, of a colour, or in all?"""
    groups: dict[str, tuple[SceneObject, ...]] = {"things": scene.objects}
    for kind in KINDS:
        groups[plural(kind)] = tuple(t for t in scene.objects if t.kind == kind)
    for colour in COLOURS:
        groups[f"{colour} things"] = tuple(t for t in scene.objects if t.colour == colour)
    wanted = rng.choice((0, 1, 2, 2, 2, 3, 3, 3, 4, 4))
    fitting = [name for name, objects in groups.items() if len(objects) == wanted]
    if not fitting:
        return None
    name = rng.choice(fitting)
    return _QuestionDraft(
        rng.choice((f"how many {name} are there?", f"how many {name} do you see?")), str(wanted), groups[name]
    )


def _colour(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
    kinds = [thing.kind for thing in scene.objects]
    single = [thing for thing in scene.objects if kinds.count(thing.kind) == 1]
    if not single:
        return None
    thing = rng.choice(single)
    text = rng.choice((f"what colour is the {thing.kind}?", f"which colour has the {thing.kind}?"))
    return _QuestionDraft(text, thing.colour, (thing,))


def _kind(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
    colours = [thing.colour for thing in scene.objects]
    single = [thing for thing in scene.objects if colours.count(thing.colour) == 1]
    if not single:
        return None
    thing = rng.choice(single)
    text = rng.choice((f"what is the {thing.colour} thing?", f"what is {thing.colour}?"))
    return _QuestionDraft(text, thing.kind, (thing,))


def _relative_position(words: tuple[str, str], axis: int) -> Callable[[Scene, SeededRandom], _QuestionDraft | None]:
    """Return a type of questions about relative positions: yes or no, or which object."""

    def question(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
        side = len(scene.image) * CLEARLY
        turned = rng.bernoulli(0.5)
        first, sign = words[turned], -1 if turned else 1
        if rng.bernoulli(0.5):
            return _which(scene, first, sign, axis, side, rng)
        yes = rng.bernoulli(0.5)
        pairs = []
        for one, other in permutations(names(scene), 2):
            by = sign * (other[1].centre[axis] - one[1].centre[axis])
            if abs(by) > side and (by > 0) == yes:
                pairs.append((one, other))
        if not pairs:
            return None
        (x, thing), (y, reference) = rng.choice(pairs)
        return _QuestionDraft(f"is the {x} {first} the {y}?", "yes" if yes else "no", (thing, reference))

    return question


def _which(scene: Scene, word: str, sign: int, axis: int, side: float, rng: SeededRandom) -> _QuestionDraft | None:
    """What lies on that side of an object? Only where exactly one does, and all centres are clearly apart."""
    found = []
    for name, thing in names(scene):
        beyond = [sign * (thing.centre[axis] - other.centre[axis]) for other in scene.objects if other is not thing]
        others = [other for other in scene.objects if other is not thing]
        there = [other for other, by in zip(others, beyond, strict=True) if by > 0]
        if len(there) == 1 and all(abs(by) > side for by in beyond):
            found.append((name, thing, there[0]))
    if not found:
        return None
    name, thing, other = rng.choice(found)
    return _QuestionDraft(f"what is {word} the {name}?", other.kind, (other, thing))


def _compare(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
    """Are there more objects of one kind than of another?"""
    counts = {kind: sum(t.kind == kind for t in scene.objects) for kind in KINDS}
    there = [kind for kind in KINDS if counts[kind]]
    more = rng.bernoulli(0.5)
    pairs = [(x, y) for x, y in permutations(there, 2) if (counts[x] > counts[y]) == more]
    if more and not pairs:
        return None
    if not more and rng.bernoulli(EQUAL) and not any(counts[x] < counts[y] for x, y in pairs):
        return None  # one of each is the most frequent case, with the answer no
    if not pairs:
        return None
    x, y = rng.choice(pairs)
    about = tuple(t for t in scene.objects if t.kind in (x, y))
    return _QuestionDraft(f"are there more {plural(x)} than {plural(y)}?", "yes" if more else "no", about)


def _same_colour(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
    same = rng.bernoulli(0.5)
    if not same and rng.bernoulli(DIFFERENT):
        return None
    pairs = [(x, y) for x, y in permutations(names(scene), 2) if (x[1].colour == y[1].colour) == same]
    pairs = [(x, y) for x, y in pairs if " " not in x[0] and " " not in y[0]]  # "the red cat" would give it away
    if not pairs:
        return None
    (x, one), (y, other) = rng.choice(pairs)
    text = rng.choice((f"do the {x} and the {y} have the same colour?", f"is the {x} of the same colour as the {y}?"))
    return _QuestionDraft(text, "yes" if same else "no", (one, other))


def _extreme(word: str, largest: bool) -> Callable[[Scene, SeededRandom], _QuestionDraft | None]:
    def question(scene: Scene, rng: SeededRandom) -> _QuestionDraft | None:
        ordered = sorted(scene.objects, key=lambda thing: thing.area, reverse=largest)
        if len(ordered) < 2:
            return None
        first, second = ordered[0].area, ordered[1].area
        if max(first, second) < LARGER * min(first, second):
            return None
        return _QuestionDraft(f"what is the {word} thing?", ordered[0].kind, (ordered[0],))

    return question


TYPES: dict[str, Callable[[Scene, SeededRandom], _QuestionDraft | None]] = {
    "exists": _exists,
    "count": _count,
    "colour": _colour,
    "kind": _kind,
    "left-right": _relative_position(("left of", "right of"), 0),
    "above-below": _relative_position(("above", "below"), 1),
    "compare": _compare,
    "same-colour": _same_colour,
    "largest": _extreme("largest", largest=True),
    "smallest": _extreme("smallest", largest=False),
}
"""The types of questions, each with the function that generates it."""
