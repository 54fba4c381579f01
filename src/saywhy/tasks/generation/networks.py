"""Captioning networks: Show and Tell (an LSTM), and Top-Down (LSTMs with attention).

Every network takes features [batch, channel, row, column], of a grid or of regions as one column
(:func:`saywhy.tasks.regions.as_feature_maps`), and a caption [batch, word], as word numbers of a
:class:`saywhy.tasks.vocabulary.Vocabulary` without START and END. It returns the logits of every word given the
previous ones. ``begin`` and ``step`` run the same network word by word, for :mod:`saywhy.decoding`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saywhy.decoding.transformers_generation import Generation
from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.regions import is_padding, without_padding
from saywhy.tasks.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, Sentences

WordLogits = Float[Tensor, "batch turn word"]


@dataclass
class CaptionOutput:
    """The output of a captioning network for a caption.

    Attributes:
        logits: [batch, turn, word]; turn t predicts word t, and the last turn END.
        words: [batch, turn] the caption with END after its last word, padded with 0.
        attention: [batch, turn, row, column] the attention, which sums to 1; None for networks without attention.
    """

    logits: WordLogits
    words: Int[Tensor, "batch turn"]
    attention: Float[Tensor, "batch turn row column"] | None = None

    def log_probabilities(self) -> Float[Tensor, "batch turn"]:
        """Return the log-probability of every word (and END) given the previous words; 0 after END."""
        chosen = self.logits.log_softmax(-1).gather(2, self.words.unsqueeze(2)).squeeze(2)
        return torch.where(self.words == 0, 0.0, chosen)

    def cross_entropy(self) -> Float[Tensor, ""]:
        """Return the mean negative log-probability of a word, END included, in nats.

        >>> round(float(CaptionOutput(torch.zeros(1, 3, 4), torch.tensor([[2, 3, 0]])).cross_entropy()), 4)  # log 4
        1.3863
        """
        return -self.log_probabilities().sum() / (self.words != 0).sum()


RecurrentState = tuple[Tensor, ...]
"""The recurrent state of a captioner: tensors with the sentence as their first axis."""


class CaptionHead(Protocol):
    """The interface that decoding needs of a network."""

    def begin(self, features: FeatureMaps) -> RecurrentState:
        """Return the state before the first word."""
        ...

    def step(
        self, words: Int[Tensor, " sentence"], state: RecurrentState
    ) -> tuple[Float[Tensor, "sentence word"], RecurrentState]:
        """Return the log-probabilities of the next word of every sentence, and the next state."""
        ...


def with_end(caption: Sentences) -> Int[Tensor, "batch turn"]:
    """Append END to a caption, after its last word.

    >>> with_end(torch.tensor([[7, 8], [9, 0]]))
    tensor([[7, 8, 3],
            [9, 3, 0]])
    """
    lengths = (caption != 0).sum(1, keepdim=True)
    longer = torch.cat([caption, torch.zeros_like(lengths)], 1)
    return longer.scatter(1, lengths, SPECIAL.index(END))


def with_start(caption: Sentences) -> Int[Tensor, "batch turn"]:
    """Return the input word of every turn: START, then the words."""
    return torch.cat([torch.full_like(caption[:, :1], SPECIAL.index(START)), caption], 1)


class ShowAndTell(nn.Module):
    """Show and Tell: the image is the first input of an LSTM (Vinyals et al., 2015; neuraltalk2).

    It is the captioner of the Grad-CAM paper's section 8.1.

    Args:
        channels: the channels of the features, whose spatial mean is the image vector.
        words: the size of the vocabulary.
        embedded, hidden: the sizes of word (and image) embeddings and of the state (512, 512).

    >>> net = ShowAndTell(6, words=9, embedded=4, hidden=5)
    >>> net(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3, 9])
    """

    def __init__(self, channels: int, words: int, embedded: int = 512, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.image = nn.Linear(channels, embedded)
        self.embedding = nn.Embedding(words, embedded, padding_idx=0)
        self.lstm = nn.LSTMCell(embedded, hidden)
        self.dropout = nn.Dropout(dropout)
        self.word = nn.Linear(hidden, words)

    def begin(self, features: FeatureMaps) -> RecurrentState:
        """Return the state after the image."""
        image = self.image(features.flatten(2).mean(2))
        hidden, cell = self.lstm(image)
        return hidden, cell

    def advance(self, words: Int[Tensor, " sentence"], state: RecurrentState) -> RecurrentState:
        """Return the hidden state and the cell state after a word."""
        hidden, cell = self.lstm(self.dropout(self.embedding(words)), state)
        return hidden, cell

    def step(
        self, words: Int[Tensor, " sentence"], state: RecurrentState
    ) -> tuple[Float[Tensor, "sentence word"], RecurrentState]:
        """See :class:`CaptionHead`."""
        state = self.advance(words, state)
        return self.word(self.dropout(state[0])).log_softmax(-1), state

    def forward(self, features: FeatureMaps, caption: Sentences) -> CaptionOutput:
        """Return the logits of every word of a caption."""
        state, hidden = self.begin(features), []
        for words in with_start(caption).unbind(1):
            state = self.advance(words, state)
            hidden.append(state[0])
        return CaptionOutput(self.word(self.dropout(torch.stack(hidden, 1))), with_end(caption))


class TopDown(nn.Module):
    """Top-down attention (Anderson et al., 2018): an attention LSTM and a language LSTM.

    ``h1 = LSTM1([h2, v_mean, word])``, ``a = softmax(w tanh(V v + U h1))`` over regions,
    ``h2 = LSTM2([sum of a v, h1])``; the global feature of an image is the mean of v. The defaults are the published
    sizes; the paper's features are those of 36 regions (up to 100) with 2,048 channels.

    The logits of words can be differentiated twice with respect to the features.

    Args:
        channels: the channels of the features.
        words: the size of the vocabulary.
        embedded, hidden, attended: the sizes of word embeddings, of the states, and of the attention layer (1,000,
            1,000, 512).
        global_channels: the size of :meth:`global_feature`, where a subclass overrides it; None is ``channels``.
        padded: regions of zeros throughout are padding, which gets no attention and is left out of the mean. In a grid
            they are cells like others.

    >>> net = TopDown(6, words=9, embedded=4, hidden=5, attended=3)
    >>> net(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]])).attention.shape
    torch.Size([2, 3, 7, 7])
    >>> from saywhy.tasks.regions import as_feature_maps
    >>> net(as_feature_maps(torch.rand(2, 36, 6)), torch.tensor([[4, 5], [6, 0]])).attention.shape
    torch.Size([2, 3, 36, 1])
    """

    def __init__(
        self,
        channels: int,
        words: int,
        embedded: int = 1000,
        hidden: int = 1000,
        attended: int = 512,
        dropout: float = 0.5,
        global_channels: int | None = None,
        padded: bool = False,
    ) -> None:
        super().__init__()
        self.hidden, self.padded = hidden, padded
        self.embedding = nn.Embedding(words, embedded, padding_idx=0)
        self.attention_lstm = nn.LSTMCell(hidden + (global_channels or channels) + embedded, hidden)
        self.language_lstm = nn.LSTMCell(channels + hidden, hidden)
        self.feature_projection = nn.Linear(channels, attended, bias=False)
        self.state_projection = nn.Linear(hidden, attended)
        self.attention_logit = nn.Linear(attended, 1)
        self.dropout = nn.Dropout(dropout)
        self.word = nn.Linear(hidden, words)

    def regions(self, features: FeatureMaps) -> FeatureMaps:
        """Return the regions that the attention weights: the positions of the features."""
        return features

    def global_feature(self, features: FeatureMaps) -> Float[Tensor, "sentence channel"]:
        """Return the global image feature, an input of every step."""
        cells = features.flatten(2)
        if not self.padded:
            return cells.mean(2)
        return cells.sum(2) / (~is_padding(cells.mT)).sum(1, keepdim=True)

    def begin(self, features: FeatureMaps) -> RecurrentState:
        """Return the regions [sentence, region, channel], their projections, the global feature, and zero states."""
        regions = self.regions(features).flatten(2).mT
        zeros = regions.new_zeros(len(regions), self.hidden)
        return regions, self.feature_projection(regions), self.global_feature(features), zeros, zeros, zeros, zeros

    def advance(
        self, words: Int[Tensor, " sentence"], state: RecurrentState
    ) -> tuple[Float[Tensor, "sentence hidden"], RecurrentState, Float[Tensor, "sentence region"]]:
        """Return the hidden state that predicts the next word, the next state, and the attention."""
        regions, projected, global_feature, h1, c1, h2, c2 = state
        inputs = torch.cat([h2, global_feature, self.dropout(self.embedding(words))], 1)
        h1, c1 = self.attention_lstm(inputs, (h1, c1))
        logits = self.attention_logit((projected + self.state_projection(h1).unsqueeze(1)).tanh()).squeeze(2)
        attention = (without_padding(logits, regions) if self.padded else logits).softmax(1)
        attended = torch.einsum("sp,spc->sc", attention, regions)
        h2, c2 = self.language_lstm(torch.cat([attended, h1], 1), (h2, c2))
        return h2, (regions, projected, global_feature, h1, c1, h2, c2), attention

    def step(
        self, words: Int[Tensor, " sentence"], state: RecurrentState
    ) -> tuple[Float[Tensor, "sentence word"], RecurrentState]:
        """See :class:`CaptionHead`."""
        hidden, state, _ = self.advance(words, state)
        return self.word(self.dropout(hidden)).log_softmax(-1), state

    def forward(self, features: FeatureMaps, caption: Sentences) -> CaptionOutput:
        """Return the logits of every word of a caption, and the attention for it."""
        state, hidden, attentions = self.begin(features), [], []
        for words in with_start(caption).unbind(1):
            h2, state, attention = self.advance(words, state)
            hidden.append(h2)
            attentions.append(attention)
        logits, grid = self.word(self.dropout(torch.stack(hidden, 1))), self.regions(features).shape[2:]
        return CaptionOutput(logits, with_end(caption), torch.stack(attentions, 1).unflatten(2, grid))


class CaptionModel(nn.Module):
    """A captioning network (head) with the trunk that computes its features.

    >>> net = CaptionModel(nn.Conv2d(3, 6, 3), ShowAndTell(6, 9, 4, 5))
    >>> net(torch.rand(2, 3, 8, 8), torch.tensor([[4, 5], [6, 0]])).words
    tensor([[4, 5, 3],
            [6, 3, 0]])
    """

    def __init__(self, trunk: nn.Module, head: Any) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, image: Images, caption: Sentences) -> CaptionOutput:
        """Score captions [batch, word] of preprocessed images [batch, 3, height, width]."""
        output: CaptionOutput = self.head(self.trunk(image), caption)
        return output

    def generation(self, images: Images) -> Generation:
        """Return the decoder arguments for the images; see :class:`saywhy.tasks.protocols.GeneratesText`."""
        return head_generation(self.head, self.trunk(images))


def head_generation(head: CaptionHead, features: FeatureMaps) -> Generation:
    """Return the decoder arguments for a caption of each image, from its features."""
    return Generation(
        step=head.step,
        state=head.begin(features),
        start=torch.full((len(features),), SPECIAL.index(START), device=features.device),
        end=SPECIAL.index(END),
        suppress_tokens=tuple(SPECIAL.index(word) for word in (PAD, UNKNOWN, START)),
    )
