"""Truth of a question about a scene: what it takes for granted, and its right answer.

A question is read by the grammar of :mod:`saywhy.toybox.language.question`. What it asks is no claim: "is there a cat?"
and "how many cats are there?" are truthful of every scene. "What colour is the cat?" takes for granted that there is
one cat, and "what is left of the cat?" that something is there.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from saywhy.toybox.language.question import CLEARLY, LARGER, plural
from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene, SceneObject

Claim = Literal["exists", "unique", "relation"]


class Statement(NamedTuple):
    """Something that a question takes for granted: of which words, what ("exists", …), and whether it is right."""

    words: str
    claim: Claim
    right: bool


@dataclass(frozen=True)
class QuestionTruth:
    """A question, compared with a scene.

    Attributes:
        type: one of ``TYPES``.
        statements: what the question takes for granted. *exists*: a named thing is there. *unique*: "the cat" is one.
            *relation*: the two things of a relation are different ones, something lies on the side that is asked for,
            and the largest is one of several.
        answer: the right answer; None where there is no single clear one.
    """

    type: str
    statements: tuple[Statement, ...] = ()
    answer: str | None = None

    @property
    def truthful(self) -> bool:
        """Whether all that the question takes for granted is right."""
        return all(statement.right for statement in self.statements)


def question_truth(text: str, scene: Scene) -> QuestionTruth | None:
    """Compare a question with a scene; None if it is no question of Toybox's grammar.

    >>> from saywhy.toybox import scene
    >>> drawn = scene("talk-test", 1)  # two green apples, an orange flower, a brown guitar
    >>> [question_truth(text, drawn).truthful for text in ("is there a cat?", "what colour is the cat?")]
    [True, False]
    >>> question_truth("what colour is the flower?", drawn).answer
    'orange'
    >>> question_truth("which cat the?", drawn) is None
    True
    """
    words = text.casefold().replace("?", " ").split()
    for pattern, read in _GRAMMAR:
        if found := pattern.fullmatch(" ".join(words)):
            return read(scene, *found.groups())
    return None


_SINGULAR = "|".join(KINDS)
_COLOUR = "|".join(COLOURS)
_NOUN = f"(?:(?:{_COLOUR}) )?(?:{_SINGULAR})"
_KINDS_OF_PLURAL = {plural(kind): kind for kind in KINDS}
_PLURAL = "|".join(_KINDS_OF_PLURAL)
_SIDE = "left of|right of|above|below"
_AXIS = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
"""The axis of each relation, and the sign of (second - first) along it where the relation holds."""


def _meant(scene: Scene, noun: str) -> list[SceneObject]:
    """Return the objects that a noun may refer to: "cat", "red cat", "red thing", "thing", singular or plural."""
    *colour, last = noun.split()
    kind = _KINDS_OF_PLURAL.get(last, last)
    return [
        thing
        for thing in scene.objects
        if (kind in ("thing", "things") or thing.kind == kind) and (not colour or thing.colour == colour[0])
    ]


def _the(scene: Scene, noun: str) -> tuple[SceneObject | None, tuple[Statement, ...]]:
    """Return the one object that "the noun" refers to, if there is one, and what the words take for granted."""
    there = _meant(scene, noun)
    statements = (Statement(noun, "exists", bool(there)), Statement(noun, "unique", len(there) == 1))
    return (there[0] if len(there) == 1 else None), statements


def _beyond(scene: Scene, first: SceneObject, word: str, second: SceneObject) -> float:
    """Return by how much the relation holds between two centres, in clear distances: above 1 clearly, below -1 not."""
    axis, sign = _AXIS[word]
    return sign * (second.centre[axis] - first.centre[axis]) / (len(scene.image) * CLEARLY)


def _exists(scene: Scene, noun: str) -> QuestionTruth:
    return QuestionTruth("exists", answer="yes" if _meant(scene, noun) else "no")


def _count(scene: Scene, noun: str) -> QuestionTruth:
    return QuestionTruth("count", answer=str(len(_meant(scene, noun))))


def _colour(scene: Scene, kind: str) -> QuestionTruth:
    thing, taken = _the(scene, kind)
    return QuestionTruth("colour", taken, None if thing is None else thing.colour)


def _kind(scene: Scene, colour: str) -> QuestionTruth:
    thing, taken = _the(scene, f"{colour} thing")
    return QuestionTruth("kind", taken, None if thing is None else thing.kind)


def _type_of_side(word: str) -> str:
    return "above-below" if _AXIS[word][0] else "left-right"


def _relation(scene: Scene, first: str, word: str, second: str) -> QuestionTruth:
    (one, taken), (other, also) = _the(scene, first), _the(scene, second)
    answer, apart = None, not (one is other and one is not None) and first != second
    if one is not None and other is not None and apart:
        by = _beyond(scene, one, word, other)
        answer = None if abs(by) <= 1 else "yes" if by > 0 else "no"
    return QuestionTruth(_type_of_side(word), (*taken, *also, Statement(word, "relation", apart)), answer)


def _which(scene: Scene, word: str, noun: str) -> QuestionTruth:
    thing, taken = _the(scene, noun)
    if thing is None:
        return QuestionTruth(_type_of_side(word), taken)
    others = [(other, _beyond(scene, other, word, thing)) for other in scene.objects if other is not thing]
    there = [other for other, by in others if by > 0]
    clear = len(there) == 1 and all(abs(by) > 1 for _, by in others)
    taken = (*taken, Statement(word, "relation", bool(there)))
    return QuestionTruth(_type_of_side(word), taken, there[0].kind if clear else None)


def _compare(scene: Scene, first: str, second: str) -> QuestionTruth:
    different = first != second
    more = len(_meant(scene, first)) > len(_meant(scene, second))
    taken = (Statement("more", "relation", different),)
    return QuestionTruth("compare", taken, ("yes" if more else "no") if different else None)


def _same_colour(scene: Scene, first: str, second: str) -> QuestionTruth:
    (one, taken), (other, also) = _the(scene, first), _the(scene, second)
    apart = first != second
    known = one is not None and other is not None and apart
    answer = ("yes" if one.colour == other.colour else "no") if known and one and other else None
    return QuestionTruth("same-colour", (*taken, *also, Statement("same colour", "relation", apart)), answer)


def _extreme(scene: Scene, word: str) -> QuestionTruth:
    ordered = sorted(scene.objects, key=lambda thing: thing.area, reverse=word == "largest")
    several = len(ordered) > 1
    areas = sorted(thing.area for thing in ordered[:2])
    clear = several and areas[1] >= LARGER * areas[0]
    return QuestionTruth(word, (Statement(word, "relation", several),), ordered[0].kind if clear else None)


_GRAMMAR: Sequence[tuple[re.Pattern[str], Callable[..., QuestionTruth]]] = [
    (re.compile(text), read)
    for text, read in (
        (f"(?:is there|do you see) an? ({_NOUN})", _exists),
        (f"how many ((?:(?:{_COLOUR}) )?(?:{_PLURAL}|things)) (?:are there|do you see)", _count),
        (f"what colour is the ({_SINGULAR})", _colour),
        (f"which colour has the ({_SINGULAR})", _colour),
        (f"what is the ({_COLOUR}) thing", _kind),
        (f"what is ({_COLOUR})", _kind),
        (f"is the ({_NOUN}) ({_SIDE}) the ({_NOUN})", _relation),
        (f"what is ({_SIDE}) the ({_NOUN})", _which),
        (f"are there more ({_PLURAL}) than ({_PLURAL})", _compare),
        (f"do the ({_SINGULAR}) and the ({_SINGULAR}) have the same colour", _same_colour),
        (f"is the ({_SINGULAR}) of the same colour as the ({_SINGULAR})", _same_colour),
        ("what is the (largest|smallest) thing", _extreme),
    )
]
"""The forms of questions, each with the function that compares its parts with a scene."""
