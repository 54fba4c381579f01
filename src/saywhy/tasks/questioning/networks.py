"""The question generator of the tasks: a trunk and a head of :mod:`saywhy.tasks.generation.networks`."""

from typing import Any

from torch import nn

from saywhy.decoding.transformers_generation import Generation
from saywhy.shapes import Images
from saywhy.tasks.generation.networks import CaptionOutput, head_generation
from saywhy.tasks.vocabulary import Sentences


class QuestionGenerator(nn.Module):
    """A question generator (Mostafazadeh et al., 2016): a CNN, and an LSTM that writes a question word by word.

    Args:
        trunk: from images to features [batch, channel, row, column].
        head: :class:`~saywhy.tasks.generation.networks.ShowAndTell` (without attention) or
            :class:`~saywhy.tasks.generation.networks.TopDown` (with attention), or another head with their methods.

    >>> import torch
    >>> from saywhy.tasks.generation.networks import ShowAndTell
    >>> net = QuestionGenerator(nn.Conv2d(3, 6, 3), ShowAndTell(6, 9, 4, 5))
    >>> net(torch.rand(2, 3, 8, 8), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3, 9])

    Differs from the paper: its GRU is an LSTM here, as in the experiment of Diverse Beam Search.
    """

    def __init__(self, trunk: nn.Module, head: Any) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, image: Images, question: Sentences) -> CaptionOutput:
        """Score questions [batch, word] of preprocessed images [batch, 3, height, width]."""
        output: CaptionOutput = self.head(self.trunk(image), question)
        return output

    def generation(self, images: Images) -> Generation:
        """Return the decoder arguments for the images; see :class:`saywhy.tasks.protocols.GeneratesText`."""
        return head_generation(self.head, self.trunk(images))
