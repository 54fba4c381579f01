"""Simulated people: where they look to answer a question, and what they answer when the image is not clear."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from saywhy.toybox.language.question import NUMBERS, SceneQuestion
from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene

PEOPLE = 10
"""Annotators of an answer, as in VQA."""

SLIP = 0.03
"""How often a person answers something else although the image is clear."""

STRAY = 0.3
"""How often a person has also looked at something that the question does not speak of."""

GRID = 32
"""Cells a side of a map of attention, before it is enlarged."""


def human_attention(scene: Scene, question: SceneQuestion, people: int = 3) -> Float[np.ndarray, "person height width"]:
    """Where several simulated people have looked, each from 0 to 1 with 1 at the most.

    As VQA-HAT collected it (Das et al., 2016): a person rubs a blurred image sharp with a round brush, where the
    answer is to be found. So the evidence is covered by strokes that begin inside it, somewhat beside it and not on all
    of it; now and then a stroke lies elsewhere. The same arguments give the same maps.

    >>> from saywhy.toybox import scene
    >>> from saywhy.toybox.language import questions
    >>> drawn = scene("talk-test", 1)
    >>> human_attention(drawn, questions(drawn)[0]).shape
    (3, 128, 128)
    """
    maps = [
        _rubbed(question.evidence, Dice("toybox", "person", scene.split, scene.index, question.text, person))
        for person in range(people)
    ]
    return np.stack(maps)


def _rubbed(evidence: np.ndarray, dice: Dice) -> Float[np.ndarray, "height width"]:
    """Strokes of a round brush over the evidence."""
    height, width = evidence.shape
    rows, columns = np.mgrid[0:GRID, 0:GRID] + 0.5
    small = Image.fromarray(evidence.astype(np.uint8) * 255).resize((GRID, GRID), Image.Resampling.BOX)
    places = np.argwhere(np.asarray(small) > 96)
    if not len(places):
        places = np.argwhere(np.asarray(small) == np.asarray(small).max())
    seen = np.zeros((GRID, GRID))
    strokes = max(4, len(places) // 6)
    for stroke in range(strokes + dice.chance(STRAY)):
        row, column = places[int(dice.roll() * len(places))] if stroke < strokes else (dice.roll() * GRID,) * 2
        row, column = row + dice.between(-1.5, 2.5), column + dice.between(-1.5, 2.5)
        radius = dice.between(1.5, 3.0)
        seen = np.maximum(seen, np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * radius**2)))
    drawn = Image.fromarray((255 * seen / seen.max()).astype(np.uint8))
    large = np.asarray(drawn.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return large / large.max()


def annotations(scene: Scene, question: SceneQuestion, people: int = PEOPLE) -> tuple[str, ...]:
    """What several simulated people answer: nearly always the right answer where the image is clear.

    In the splits "ambiguous-…" people disagree the more the less there is to be seen. What they say instead is of the
    same sort as the answer (a colour for a colour).

    >>> from saywhy.toybox import scene
    >>> from saywhy.toybox.language import questions
    >>> drawn = scene("talk-test", 1)
    >>> set(annotations(drawn, questions(drawn)[0])) == {questions(drawn)[0].answer}
    True
    """
    dice = Dice("toybox", "answers", scene.split, scene.index, question.text)
    others = [answer for answer in _alike(question.answer) if answer != question.answer]
    wrong = max(SLIP, 0.6 * (1 - scene.clarity))
    favourite = dice.pick(others)  # people who cannot see tend to err alike
    return tuple(
        (favourite if dice.chance(0.7) else dice.pick(others)) if dice.chance(wrong) else question.answer
        for _ in range(people)
    )


def _alike(answer: str) -> tuple[str, ...]:
    """All answers of the same sort; what is none of ``ANSWERS`` is the name of an unseen kind.

    >>> _alike("no"), _alike("3")
    (('yes', 'no'), ('0', '1', '2', '3', '4'))
    """
    return next((tuple(sort) for sort in (("yes", "no"), NUMBERS, COLOURS, KINDS) if answer in sort), (*KINDS, answer))
