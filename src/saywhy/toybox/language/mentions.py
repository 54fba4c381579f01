"""Correctness of a caption of a scene, mention by mention (of kinds, colours and counts)."""

from typing import Literal, NamedTuple

from saywhy.toybox.language.caption import COUNTED
from saywhy.toybox.language.question import plural
from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene

NOUNS = {**{kind: kind for kind in KINDS}, **{plural(kind): kind for kind in KINDS}}
"""The kind that a word names, of every singular and plural."""


class Mention(NamedTuple):
    """A word of a sentence that makes a claim about the scene, and whether the claim is right.

    ``place`` is its index in the sentence. ``objects`` are the indices of the scene's objects that it refers to: those
    of the kind, and of the colour where the noun has one; empty where the claim is wrong.
    """

    word: str
    claim: Literal["kind", "colour", "count"]
    right: bool
    place: int
    objects: tuple[int, ...]


def _begin(words: list[str], place: int) -> int:
    """Return the index at which the noun phrase of a word begins: after the previous noun."""
    return next((i + 1 for i in range(place - 1, -1, -1) if words[i] in NOUNS), 0)


def mentions(text: str, scene: Scene) -> list[Mention]:
    """Return the claims of a sentence, in its order.

    A kind is right if the scene has such an object; a colour if an object of the kind that follows has it; a number
    ("two") if the scene has as many objects of the kind (and of the colour between them). "a" is no claim.

    >>> from saywhy.toybox import scene
    >>> [(m.word, m.right) for m in mentions("two red apples and a flower", scene("talk-test", 1))]
    [('two', False), ('red', False), ('apples', True), ('flower', True)]
    """
    words = text.split()
    found = []
    for place, word in enumerate(words):
        ahead = next((i for i in range(place, len(words)) if words[i] in NOUNS), None)
        if ahead is None:
            break
        colours = {w for w in words[_begin(words, place) : ahead] if w in COLOURS}
        objects = [i for i, thing in enumerate(scene.objects) if thing.kind == NOUNS[words[ahead]]]
        meant = tuple(i for i in objects if not colours or scene.objects[i].colour in colours)
        if word in NOUNS:
            found.append(Mention(word, "kind", bool(objects), place, meant or tuple(objects)))
        elif word in COLOURS:
            same = tuple(i for i in objects if scene.objects[i].colour == word)
            found.append(Mention(word, "colour", bool(same), place, same))
        elif word in COUNTED:
            right = len(meant) == COUNTED.index(word)
            found.append(Mention(word, "count", right, place, meant if right else ()))
    return found
