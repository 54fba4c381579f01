"""The classes that a noun names: by its singular, by other words for the same thing, or as a super-category.

The paper routes questions by a part-of-speech tagger, WordNet's lemmas and word vectors; its lists were not released.
The rules and tables here are ours: English plurals, words for people, and the super-categories of COCO.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from saywhy.errors import InputError, nearest
from saywhy.validation import short_repr

NounKind = Literal["class", "alias", "super-category", "several", "all"]
"""How a noun names classes: one by its name, one by another word, the members of a super-category, several nouns
("cats and dogs"), or every class ("things")."""

IRREGULAR = {
    "children": "child", "feet": "foot", "geese": "goose", "knives": "knife", "leaves": "leaf", "loaves": "loaf",
    "men": "man", "mice": "mouse", "oxen": "ox", "people": "person", "persons": "person", "sheep": "sheep",
    "shelves": "shelf", "teeth": "tooth", "wolves": "wolf", "women": "woman", "fish": "fish", "skis": "skis",
    "scissors": "scissors", "buses": "bus", "glasses": "glass", "mens": "man", "womens": "woman",
}  # fmt: skip
"""Plurals that the rules get wrong."""

SYNONYMS: tuple[frozenset[str], ...] = (
    frozenset((
        "person", "man", "woman", "child", "kid", "boy", "girl", "guy", "lady", "adult", "baby", "toddler", "player",
        "human", "skier", "surfer", "rider", "pedestrian", "individual", "snowboarder", "skateboarder", "gentleman",
    )),
    frozenset(("bicycle", "bike", "cycle")),
    frozenset(("motorcycle", "motorbike")),
    frozenset(("airplane", "aeroplane", "plane", "jet", "aircraft")),
    frozenset(("car", "automobile")),
    frozenset(("boat", "ship")),
    frozenset(("couch", "sofa")),
    frozenset(("tv", "tv monitor", "tvmonitor", "television", "monitor", "tv screen")),
    frozenset(("cell phone", "phone", "cellphone", "mobile phone")),
    frozenset(("dining table", "diningtable", "table")),
    frozenset(("potted plant", "pottedplant", "plant")),
    frozenset(("dog", "puppy")),
    frozenset(("cat", "kitten")),
    frozenset(("cow", "cattle", "calf")),
    frozenset(("donut", "doughnut")),
    frozenset(("sports ball", "ball")),
    frozenset(("teddy bear", "teddy")),
    frozenset(("laptop", "notebook computer")),
    frozenset(("fire hydrant", "hydrant")),
    frozenset(("wine glass", "glass")),
    frozenset(("hair drier", "hair dryer")),
    frozenset(("refrigerator", "fridge")),
    frozenset(("rbc", "red blood cell")),
    frozenset(("wbc", "white blood cell")),
)  # fmt: skip
"""Words for the same class. A class whose own name fits goes first."""

SUPER_CATEGORIES: dict[str, frozenset[str]] = {
    "vehicle": frozenset(("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat")),
    "animal": frozenset((
        "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "fish", "butterfly",
        "rabbit", "snail", "turtle", "duck",
    )),
    "fruit": frozenset(("banana", "apple", "orange")),
    "food": frozenset((
        "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    )),
    "furniture": frozenset(("chair", "couch", "potted plant", "bed", "dining table", "toilet")),
    "appliance": frozenset(("microwave", "oven", "toaster", "sink", "refrigerator")),
    "utensil": frozenset(("fork", "knife", "spoon")),
}  # fmt: skip
"""The super-categories whose name is a noun that people count, and their members; a class by any of its synonyms."""

EVERYTHING = frozenset(("thing", "object", "item"))
"""Nouns that name every class."""


@dataclass(frozen=True)
class NounClasses:
    """The classes that a noun names.

    Attributes:
        noun: as given.
        labels: of the classes, in the order of the model's; their counts are summed.
        kind: how it names them.
    """

    noun: str
    labels: tuple[str, ...]
    kind: NounKind


def singulars(noun: str) -> tuple[str, ...]:
    """Return a noun and what it may be the plural of, in lower case; of several words the last is inflected.

    >>> singulars("Traffic  Lights"), singulars("berries")
    (('traffic lights', 'traffic light'), ('berries', 'berry', 'berrie'))
    """
    words = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", noun.lower())
    if not words:
        return ()
    *before, last = words
    found = [last]
    if last in IRREGULAR:
        found.append(IRREGULAR[last])
    elif last.endswith("ies") and len(last) > 4:
        found += [f"{last[:-3]}y", last[:-1]]
    elif last.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        found += [last[:-2], last[:-1]]
    elif last.endswith("s") and not last.endswith("ss"):
        found.append(last[:-1])
    return tuple(dict.fromkeys(" ".join([*before, one]) for one in found))


def noun_classes(noun: str, labels: Sequence[str]) -> NounClasses:
    """Return the classes that a noun names.

    Names are compared without case, spaces and hyphens, first that of a class, then another word for one, then a
    super-category, whose members are summed, then "things", which are all classes; "cats and dogs" are the classes of
    each noun.

    Raises:
        InputError: no class fits; the message has the nearest names.

    >>> noun_classes("women", ["person", "dog"])
    NounClasses(noun='women', labels=('person',), kind='alias')
    >>> noun_classes("animals", ["cow", "person", "dog"]).labels
    ('cow', 'dog')
    >>> noun_classes("dogs and cows", ["cow", "person", "dog"]).labels
    ('cow', 'dog')
    """
    names = {_key(label): label for label in reversed(list(labels))}
    wanted = singulars(noun) if isinstance(noun, str) else ()
    keys = [_key(one) for one in wanted]
    for key in keys:
        if key in names:
            return NounClasses(noun, (names[key],), "class")
    for group in SYNONYMS:
        if any(one in group for one in wanted):
            found = [label for label in labels if _key(label) in map(_key, group)]
            if found:
                return NounClasses(noun, tuple(found[:1]), "alias")
    for one in wanted:
        members = {_key(label) for member in SUPER_CATEGORIES.get(one, ()) for label in _synonyms(member)}
        found = [label for label in labels if _key(label) in members]
        if found:
            return NounClasses(noun, tuple(found), "super-category")
    if EVERYTHING & set(wanted) and labels:
        return NounClasses(noun, tuple(labels), "all")
    parts = [part for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*", noun) if part] if wanted else []
    if len(parts) > 1:
        named = {label for part in parts for label in noun_classes(part, labels).labels}
        return NounClasses(noun, tuple(label for label in labels if label in named), "several")
    near = nearest(wanted[-1], labels) if wanted else []
    others = f"none; classes: {', '.join(map(repr, labels[:8]))}{' …' if len(labels) > 8 else ''}"
    listed = ", ".join(map(repr, near)) or others
    raise InputError(f"no class is named by {short_repr(noun)}; nearest: {listed}.")


def _synonyms(name: str) -> frozenset[str]:
    return next((group for group in SYNONYMS if name in group), frozenset((name,)))


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())
