"""Simulated annotators: their attention maps for a question, and their answers, which vary with the blur."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from saywhy.toybox.language.question import NUMBERS, SceneQuestion
from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.scene import Scene
from saywhy.toybox.scenes.seeded_random import SeededRandom

PEOPLE = 10
"""Annotators per question, as in VQA."""

SLIP = 0.03
"""Probability of a wrong answer although the image is clear."""

STRAY = 0.3
"""Probability of a stroke outside the evidence."""

GRID = 32
"""Rows and columns of an attention map before it is upsampled."""


def human_attention(scene: Scene, question: SceneQuestion, people: int = 3) -> Float[np.ndarray, "person height width"]:
    """Return simulated human attention maps, each from 0 to 1 with a maximum of 1.

    They follow VQA-HAT (Das et al., 2016), where annotators deblur an image with a round brush at the regions that they
    need for the answer. Strokes begin inside the evidence, with random offsets, and do not cover all of it;
    occasionally one stroke lies elsewhere. The same arguments give the same maps.

    >>> from saywhy.toybox import scene
    >>> from saywhy.toybox.language import questions
    >>> drawn = scene("talk-test", 1)
    >>> human_attention(drawn, questions(drawn)[0]).shape
    (3, 128, 128)
    """
    maps = [
        _brush(question.evidence, SeededRandom("toybox", "person", scene.split, scene.index, question.text, person))
        for person in range(people)
    ]
    return np.stack(maps)


def _brush(evidence: np.ndarray, rng: SeededRandom) -> Float[np.ndarray, "height width"]:
    """Return a map of brush strokes over the evidence."""
    height, width = evidence.shape
    rows, columns = np.mgrid[0:GRID, 0:GRID] + 0.5
    small = Image.fromarray(evidence.astype(np.uint8) * 255).resize((GRID, GRID), Image.Resampling.BOX)
    places = np.argwhere(np.asarray(small) > 96)
    if not len(places):
        places = np.argwhere(np.asarray(small) == np.asarray(small).max())
    painted = np.zeros((GRID, GRID))
    strokes = max(4, len(places) // 6)
    for stroke in range(strokes + rng.bernoulli(STRAY)):
        row, column = places[int(rng.random() * len(places))] if stroke < strokes else (rng.random() * GRID,) * 2
        row, column = row + rng.uniform(-1.5, 2.5), column + rng.uniform(-1.5, 2.5)
        radius = rng.uniform(1.5, 3.0)
        painted = np.maximum(painted, np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * radius**2)))
    drawn = Image.fromarray((255 * painted / painted.max()).astype(np.uint8))
    large = np.asarray(drawn.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return large / large.max()


def annotations(scene: Scene, question: SceneQuestion, people: int = PEOPLE) -> tuple[str, ...]:
    """Return the answers of simulated annotators: nearly always the right one where the image is clear.

    In the splits "ambiguous-…" annotators disagree more with more blur. A wrong answer is of the same sort as the right
    one (a colour for a colour).

    >>> from saywhy.toybox import scene
    >>> from saywhy.toybox.language import questions
    >>> drawn = scene("talk-test", 1)
    >>> set(annotations(drawn, questions(drawn)[0])) == {questions(drawn)[0].answer}
    True
    """
    rng = SeededRandom("toybox", "answers", scene.split, scene.index, question.text)
    others = [answer for answer in _same_sort(question.answer) if answer != question.answer]
    wrong = max(SLIP, 0.6 * (1 - scene.clarity))
    favourite = rng.choice(others)  # annotators of a blurred image tend to make the same error
    return tuple(
        (favourite if rng.bernoulli(0.7) else rng.choice(others)) if rng.bernoulli(wrong) else question.answer
        for _ in range(people)
    )


def _same_sort(answer: str) -> tuple[str, ...]:
    """Return all answers of the same sort; an answer outside ``ANSWERS`` is an unseen kind.

    >>> _same_sort("no"), _same_sort("3")
    (('yes', 'no'), ('0', '1', '2', '3', '4'))
    """
    return next((tuple(sort) for sort in (("yes", "no"), NUMBERS, COLOURS, KINDS) if answer in sort), (*KINDS, answer))
