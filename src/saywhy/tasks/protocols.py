"""The protocols of models for ``saywhy.ask``, ``saywhy.caption`` and ``saywhy.questions``; yours can implement them."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from saywhy.decoding.transformers_generation import Generation


@runtime_checkable
class AnswersQuestions(Protocol):
    """A VQA model whose classes are answers; a :class:`saywhy.Model` with ``texts`` is one.

    ``saywhy.load(network, labels=answers, input_size=224, texts={"question": read})`` makes one from a network
    ``forward(image, question)``; ``read`` converts a list of questions to the network's input.

    Attributes:
        module: a network that takes an image and a question, and returns the scores of the answers.
        labels: the answers.
        texts: by the name of the argument, the function that converts texts to the network's input.
    """

    module: nn.Module
    labels: tuple[str, ...] | None
    texts: Mapping[str, Any]

    def prepare_inputs(self, image: Any, words: str) -> Mapping[str, Any]:
        """Return the inputs of the network for one image and one question."""


@runtime_checkable
class GeneratesText(Protocol):
    """A network that generates text about images word by word, such as :class:`CaptionModel`.

    Its output for an image and a caption must have ``log_probabilities()`` [batch, word] and ``words`` [batch, word],
    as :class:`saywhy.tasks.generation.networks.CaptionOutput` has.
    """

    def generation(self, images: Tensor) -> Generation:
        """Return the step function, its state after each image, the start word, and the suppressed words."""
