"""Whether what is said of a scene is true, mention by mention."""

from typing import Literal, NamedTuple

from saywhy.data.toybox.colour import COLOURS
from saywhy.data.toybox.kinds import KINDS
from saywhy.data.toybox.scene import Scene
from saywhy.data.toybox.talk.caption import COUNTED
from saywhy.data.toybox.talk.question import plural

_NOUNS = {**{kind: kind for kind in KINDS}, **{plural(kind): kind for kind in KINDS}}


class Mention(NamedTuple):
    """A word of a sentence that claims something of the scene, and whether that is so."""

    word: str
    claim: Literal["kind", "colour", "count"]
    right: bool


def mentions(text: str, scene: Scene) -> list[Mention]:
    """The claims of a sentence, in its order.

    A kind is right if such a thing is there; a colour if a thing of the kind that it stands before has it; a number
    ("two") if so many things of that kind (and colour, if there is one between) are there. "a" claims nothing.

    >>> from saywhy.data.toybox import scene
    >>> [(m.word, m.right) for m in mentions("two red apples and a flower", scene("talk-test", 1))]
    [('two', False), ('red', False), ('apples', True), ('flower', True)]
    """
    words = text.split()
    found = []
    for place, word in enumerate(words):
        ahead = next((i for i in range(place, len(words)) if words[i] in _NOUNS), None)
        if ahead is None:
            break
        things = [thing for thing in scene.objects if thing.kind == _NOUNS[words[ahead]]]
        if word in _NOUNS:
            found.append(Mention(word, "kind", bool(things)))
        elif word in COLOURS:
            found.append(Mention(word, "colour", any(thing.colour == word for thing in things)))
        elif word in COUNTED:
            colour = {w for w in words[place:ahead] if w in COLOURS}
            meant = [thing for thing in things if not colour or thing.colour in colour]
            found.append(Mention(word, "count", len(meant) == COUNTED.index(word)))
    return found
