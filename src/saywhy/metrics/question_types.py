"""Types of questions, by how they begin; and how many different ones several questions of an image have."""

from collections.abc import Callable, Sequence

from saywhy.metrics.diversity import check_lists
from saywhy.metrics.registry import dataset_metric

OPENINGS: tuple[str, ...] = (
    "how many", "how much", "how old", "how",
    "what color", "what colour", "which color", "which colour",
    "what kind of", "what type of", "what sort of", "what time", "what number", "what is the name", "what brand",
    "what is", "what's", "what are", "what was", "what does", "what do", "what did", "what", "which",
    "who is", "who", "whose", "where is", "where are", "where", "when", "why is", "why are", "why",
    "is there", "are there", "was there", "were there", "do you see", "can you see", "can you", "could",
    "is it", "is this", "is that", "is the", "is", "are these", "are they", "are the", "are",
    "was", "were", "does", "do", "did", "has", "have", "had", "can", "will", "would", "should",
)  # fmt: skip
"""Beginnings of English questions, ours, after the first words by which the annotations of VQA sort questions."""

ALIKE = {"color": "colour", "what's": "what is"}
"""Words that count as others, so that a spelling is no type."""


def question_type(text: str, openings: Sequence[str] = OPENINGS) -> str:
    """Return the type of a question: the longest opening that it begins with, or else its first word.

    Args:
        text: the question, with or without punctuation.
        openings: the beginnings that are types, in lower case.

    Raises:
        InputError: the text has no word.

    >>> [question_type(text) for text in ("What color is it?", "is the cat left of the dog", "name the animal")]
    ['what colour', 'is the', 'name']
    """
    words = text.casefold().replace("?", " ").replace(",", " ").split()
    check_lists([words])
    begins = [opening for opening in openings if words[: len(opening.split())] == opening.split()]
    found = max(begins, key=lambda opening: len(opening.split()), default=words[0])
    for word, same in ALIKE.items():
        found = found.replace(word, same)
    return found


@dataset_metric(
    "number of different types of the questions of an image",
    better="higher",
    range="1 to the number of questions",
    paper="Vijayakumar et al., 2016",
    order=270,
)
def question_types(lists: Sequence[Sequence[str]], type_of: Callable[[str], str] | None = None) -> float:
    """Return the number of different question types of an image, the mean over images.

    The paper of Diverse Beam Search (Vijayakumar et al., 2016, section 5.5 of its first version) counts the types of 6
    questions an image: 2.3 with beam search, 3.7 with diverse beam search. It does not say what a type is; here it is
    how a question begins, as in the annotations of VQA.

    Args:
        lists: the questions of every image.
        type_of: the type of a question; None is :func:`question_type`.

    Raises:
        InputError: there are no questions.

    >>> question_types([["is there a cat", "is there a dog", "how many cats are there"], ["why is it red"]])
    1.5
    """
    check_lists(lists)
    kind = type_of or question_type
    return sum(len({kind(text) for text in one}) for one in lists) / len(lists)
