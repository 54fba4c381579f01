"""Which questions a split asks of a scene."""

from saywhy.toybox.language.question import ANSWERS, TYPES, SceneQuestion, ask
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.scene import Scene

FAVOURED, OTHER = 0.95, 0.15
"""How often a question is kept whose answer a split with changed priors favours, and any other."""


def questions(scene: Scene) -> tuple[SceneQuestion, ...]:
    """At most one question of every type, the same whenever the same scene is asked.

    In the splits "priors-…" every second answer is rare: the even ones of ``ANSWERS`` in training and validation, the
    odd ones in the test, so that who has learnt which answers are frequent fails there.

    >>> from saywhy.toybox import scene
    >>> [(q.text, q.answer) for q in questions(scene("talk-test", 1))][:2]
    [('do you see a green apple?', 'yes'), ('how many green things do you see?', '2')]
    """
    asked = []
    for type in TYPES:
        dice = Dice("toybox", "question", scene.split, scene.index, type)
        question = ask(scene, type, dice)
        if question is not None and dice.chance(kept(scene.split, question.answer)):
            asked.append(question)
    return tuple(asked)


def kept(split: str, answer: str) -> float:
    """How often a question with this answer is kept in a split.

    >>> kept("talk-train", "yes"), kept("priors-train", "yes"), kept("priors-test", "yes")
    (1.0, 0.95, 0.15)
    """
    if not split.startswith("priors-"):
        return 1.0
    even = ANSWERS.index(answer) % 2 == 0
    return FAVOURED if even != (split == "priors-test") else OTHER
