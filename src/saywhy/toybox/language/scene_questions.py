"""The questions about a scene, as its split samples them."""

from saywhy.toybox.language.question import ANSWERS, TYPES, SceneQuestion, ask
from saywhy.toybox.scenes.scene import Scene
from saywhy.toybox.scenes.seeded_random import SeededRandom

FAVOURED, OTHER = 0.95, 0.15
"""In a split with changed priors, the probability to keep a question with a favoured answer, and with any other."""


def questions(scene: Scene) -> tuple[SceneQuestion, ...]:
    """Return the questions about a scene, at most one of every type; the same scene gives the same questions.

    The splits "priors-…" have changed priors: the even ones of ``ANSWERS`` are favoured in training and validation, the
    odd ones in the test, so a model that has learnt the frequent answers fails there.

    >>> from saywhy.toybox import scene
    >>> [(q.text, q.answer) for q in questions(scene("talk-test", 1))][:2]
    [('do you see a green apple?', 'yes'), ('how many green things do you see?', '2')]
    """
    found = []
    for type in TYPES:
        rng = SeededRandom("toybox", "question", scene.split, scene.index, type)
        question = ask(scene, type, rng)
        if question is not None and rng.bernoulli(keep_probability(scene.split, question.answer)):
            found.append(question)
    return tuple(found)


def keep_probability(split: str, answer: str) -> float:
    """Return the probability that a question with this answer is kept in a split.

    >>> keep_probability("talk-train", "yes"), keep_probability("priors-train", "yes")
    (1.0, 0.95)
    >>> keep_probability("priors-test", "yes")
    0.15
    """
    if not split.startswith("priors-"):
        return 1.0
    even = ANSWERS.index(answer) % 2 == 0
    return FAVOURED if even != (split == "priors-test") else OTHER


def asked(scene: Scene, people: int = 5) -> tuple[SceneQuestion, ...]:
    """Return what several simulated people ask about a scene, one question each; the same scene gives the same ones.

    Each picks a type at random among those that the scene allows. Two may ask the same.

    >>> from saywhy.toybox import scene
    >>> [question.text for question in asked(scene("talk-test", 1), 2)]
    ['what is brown?', 'is the flower above the guitar?']
    """
    found = []
    for person in range(people):
        rng = SeededRandom("toybox", "asked", scene.split, scene.index, person)
        question = None
        while question is None:  # some types are impossible in some scenes; "exists" is possible in all
            question = ask(scene, rng.choice(tuple(TYPES)), rng)
        found.append(question)
    return tuple(found)
