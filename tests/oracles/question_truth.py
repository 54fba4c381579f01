"""Every question of Toybox's grammar with some nouns, and its truth about a scene: by enumeration, in plain loops.

The questions are written, not read, so that nothing is shared with a parser.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple


class Thing(NamedTuple):
    kind: str
    colour: str
    x: float
    y: float
    area: float


class Expected(NamedTuple):
    text: str
    type: str
    truthful: bool
    answer: str | None


def plural_of(kind: str) -> str:
    if kind == "fish":
        return "fish"
    return kind + "es" if kind[-1] == "s" else kind + "s"


def named(things: list[Thing], colour: str, kind: str) -> list[Thing]:
    found = []
    for thing in things:
        if kind not in ("", thing.kind):
            continue
        if colour in ("", thing.colour):
            found.append(thing)
    return found


def every_question(things: list[Thing], kinds: list[str], colours: list[str], side: float) -> Iterator[Expected]:
    """Yield the questions with these kinds and colours; ``side`` is that of the image, of which 6 % are clear."""
    nouns = [(colour, kind) for colour in ["", *colours] for kind in kinds]
    for colour, kind in nouns:
        text, there = f"{colour} {kind}".strip(), named(things, colour, kind)
        article = "an" if text[0] in "aeiou" else "a"
        for begin in ("is there", "do you see"):
            yield Expected(f"{begin} {article} {text}?", "exists", True, "yes" if there else "no")
        several = f"{colour} {plural_of(kind)}".strip()
        yield Expected(f"how many {several} are there?", "count", True, str(len(there)))
    for colour in colours:
        there = named(things, colour, "")
        yield Expected(f"how many {colour} things do you see?", "count", True, str(len(there)))
        for text in (f"what is the {colour} thing?", f"what is {colour}?"):
            yield Expected(text, "kind", len(there) == 1, there[0].kind if len(there) == 1 else None)
    yield Expected("how many things are there?", "count", True, str(len(things)))
    for kind in kinds:
        there = named(things, "", kind)
        for text in (f"what colour is the {kind}?", f"which colour has the {kind}?"):
            yield Expected(text, "colour", len(there) == 1, there[0].colour if len(there) == 1 else None)
    yield from relations(things, nouns, side)
    yield from pairs(things, kinds)
    largest, smallest = sorted(things, key=lambda t: -t.area), sorted(things, key=lambda t: t.area)
    for word, order in (("largest", largest), ("smallest", smallest)):
        clear = len(order) > 1 and max(order[0].area, order[1].area) >= 1.3 * min(order[0].area, order[1].area)
        yield Expected(f"what is the {word} thing?", word, len(order) > 1, order[0].kind if clear else None)


def gap(word: str, first: Thing, second: Thing) -> float:
    """Return how far the first lies on that side of the second, in pixels."""
    return {
        "left of": second.x - first.x,
        "right of": first.x - second.x,
        "above": second.y - first.y,
        "below": first.y - second.y,
    }[word]


def relations(things: list[Thing], nouns: list[tuple[str, str]], side: float) -> Iterator[Expected]:
    least = 0.06 * side
    for word in ("left of", "right of", "above", "below"):
        type = "left-right" if word in ("left of", "right of") else "above-below"
        for first, second in product(nouns, nouns):
            one, two = named(things, *first), named(things, *second)
            truthful = len(one) == 1 and len(two) == 1 and one[0] is not two[0]
            answer = None
            if truthful and abs(gap(word, one[0], two[0])) > least:
                answer = "yes" if gap(word, one[0], two[0]) > 0 else "no"
            text = f"is the {' '.join(first).strip()} {word} the {' '.join(second).strip()}?"
            yield Expected(text, type, truthful, answer)
        for noun in nouns:
            there = named(things, *noun)
            truthful, answer = False, None
            if len(there) == 1:
                gaps = {other: gap(word, other, there[0]) for other in things if other is not there[0]}
                beyond = [other for other, by in gaps.items() if by > 0]
                truthful = len(beyond) > 0
                if len(beyond) == 1 and all(abs(by) > least for by in gaps.values()):
                    answer = beyond[0].kind
            yield Expected(f"what is {word} the {' '.join(noun).strip()}?", type, truthful, answer)


def pairs(things: list[Thing], kinds: list[str]) -> Iterator[Expected]:
    for first, second in product(kinds, kinds):
        one, two = named(things, "", first), named(things, "", second)
        text = f"are there more {plural_of(first)} than {plural_of(second)}?"
        more = "yes" if len(one) > len(two) else "no"
        yield Expected(text, "compare", first != second, more if first != second else None)
        alike = len(one) == 1 and len(two) == 1 and first != second
        answer = ("yes" if one[0].colour == two[0].colour else "no") if alike else None
        for text in (
            f"do the {first} and the {second} have the same colour?",
            f"is the {first} of the same colour as the {second}?",
        ):
            yield Expected(text, "same-colour", alike, answer)
