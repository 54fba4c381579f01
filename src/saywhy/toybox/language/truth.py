"""Whether what is said of a scene is true, mention by mention."""

from typing import Literal, NamedTuple

from saywhy.toybox.language.caption import COUNTED
from saywhy.toybox.language.question import plural
from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene

_NOUNS = {**{kind: kind for kind in KINDS}, **{plural(kind): kind for kind in KINDS}}


class Mention(NamedTuple):
    """A word of a sentence that claims something of the scene, and whether that is so.

    ``place`` is its number in the sentence, ``objects`` are the numbers of the scene's things that it speaks of: those
    of the kind, and of the colour where one stands before it; none where it is wrong.
    """

    word: str
    claim: Literal["kind", "colour", "count"]
    right: bool
    place: int
    objects: tuple[int, ...]


def _begin(words: list[str], place: int) -> int:
    """Where the group of words begins in which this one stands: behind the noun before it."""
    return next((i + 1 for i in range(place - 1, -1, -1) if words[i] in _NOUNS), 0)


def mentions(text: str, scene: Scene) -> list[Mention]:
    """The claims of a sentence, in its order.

    A kind is right if such a thing is there; a colour if a thing of the kind that it stands before has it; a number
    ("two") if so many things of that kind (and colour, if there is one between) are there. "a" claims nothing.

    >>> from saywhy.toybox import scene
    >>> [(m.word, m.right) for m in mentions("two red apples and a flower", scene("talk-test", 1))]
    [('two', False), ('red', False), ('apples', True), ('flower', True)]
    """
    words = text.split()
    found = []
    for place, word in enumerate(words):
        ahead = next((i for i in range(place, len(words)) if words[i] in _NOUNS), None)
        if ahead is None:
            break
        colours = {w for w in words[_begin(words, place) : ahead] if w in COLOURS}
        objects = [i for i, thing in enumerate(scene.objects) if thing.kind == _NOUNS[words[ahead]]]
        meant = tuple(i for i in objects if not colours or scene.objects[i].colour in colours)
        if word in _NOUNS:
            found.append(Mention(word, "kind", bool(objects), place, meant or tuple(objects)))
        elif word in COLOURS:
            same = tuple(i for i in objects if scene.objects[i].colour == word)
            found.append(Mention(word, "colour", bool(same), place, same))
        elif word in COUNTED:
            right = len(meant) == COUNTED.index(word)
            found.append(Mention(word, "count", right, place, meant if right else ()))
    return found
