"""What a model must have for ``saywhy.ask`` and ``saywhy.caption``: ours have it, and so may a person's own."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from saywhy.decoding.transformers_generation import Generation


@runtime_checkable
class AnswersQuestions(Protocol):
    """A model of images and questions whose classes are answers; :class:`saywhy.Model` is one if it has ``texts``.

    ``saywhy.load(network, labels=answers, input_size=224, texts={"question": read})`` makes one of a network
    ``forward(image, question)``; ``read`` turns a list of questions into what the network takes.

    Attributes:
        module: called with an image and a question, it gives the scores of the answers.
        labels: the answers.
        texts: by the name of the argument, from texts to what the network takes.
    """

    module: nn.Module
    labels: tuple[str, ...] | None
    texts: Mapping[str, Any]

    def asked(self, image: Any, words: str) -> Mapping[str, Any]:
        """The inputs of the network for one image and one question."""


@runtime_checkable
class GeneratesText(Protocol):
    """A network that generates text about images, word by word; :class:`CaptionModel` is one.

    Called with an image and a caption, its output must say how likely every word is: ``log_probabilities()``
    [batch, word] and ``words`` [batch, word], as :class:`saywhy.tasks.captioning.networks.CaptionOutput` does.
    """

    def generation(self, images: Tensor) -> Generation:
        """The step function, its state behind each image, the first word, and the words that are never said."""
