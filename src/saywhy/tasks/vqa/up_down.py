r"""Bottom-up and top-down attention for VQA (Anderson et al., 2018, section 3.3), as studies of grounding train it.

The variant is that of "Visual grounding methods for VQA are working for the wrong reasons!" (Shrestha et al., 2020),
and of self-critical reasoning (Wu and Mooney, 2019) before it. With :math:`f(x) = \mathrm{ReLU}(W x + b)`, every W
weight-normalised and every f with its own weights:

.. math::
    a^h_r = \mathrm{softmax}_r\, w^h f(f(v_r) \odot f(q)), \qquad
    y = W_2 f\Big(f(q) \odot f\big(\sum_h \sum_r a^h_r v_r\big)\Big)
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from saywhy.shapes import FeatureMaps
from saywhy.tasks.regions import Regions, without_padding
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.networks import AttentionPooling, Glimpses, Logits, VQAHead


class UpDownDropout(NamedTuple):
    """The dropout rates of :class:`UpDownVQA`: of word embeddings, attention, fusion, and the classifier.

    >>> UpDownDropout(words=0.0).classifier
    0.5
    """

    words: float = 0.4
    attention: float = 0.2
    fusion: float = 0.1
    classifier: float = 0.5


DROPOUT = UpDownDropout()
"""The published rates."""


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer whose weight is ``g V / ||V||``, with one norm for the whole matrix (``dim=-1``)."""
    layer: nn.Linear = weight_norm(nn.Linear(inputs, outputs), dim=-1)
    return layer


def _nonlinear(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Return ``f``: a weight-normalised linear layer, ReLU, and dropout."""
    return nn.Sequential(_linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout))


class ProductAttention(nn.Module):
    """One attention head: the logits of regions, ``w f(f(v) * f(q))``.

    >>> ProductAttention(6, 5, 4)(torch.rand(2, 9, 6), torch.rand(2, 5)).shape
    torch.Size([2, 9])
    """

    def __init__(self, channels: int, question: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.image, self.question = _nonlinear(channels, hidden, dropout), _nonlinear(question, hidden, dropout)
        self.joint, self.logit = _nonlinear(hidden, hidden, dropout), _linear(hidden, 1)

    def forward(self, v: Regions, q: Float[Tensor, "batch question"]) -> Float[Tensor, "batch region"]:
        """Return the attention logits of the regions for a question."""
        logits: Tensor = self.logit(self.joint(self.image(v) * self.question(q).unsqueeze(1)))
        return logits.squeeze(2)


class UpDownVQA(VQAHead):
    r"""Bottom-up and top-down attention (UpDn): attention over regions by products, and a classifier of a product.

    The features are those of regions, [batch, channel, region, 1] (:func:`saywhy.tasks.regions.as_feature_maps`), or
    the cells of a grid. A region of zeros throughout is padding and gets no attention. The attention of every head,
    [batch, head, region, 1], sums to 1; the pooled features of the heads are summed, so the attention of all heads to a
    region is at most their number.

    Logits can be differentiated twice with respect to the features, and their gradients once with respect to all
    weights, as losses on sensitivities need it (HINT). A fused GRU is enough, because these gradients depend on the
    question vector only as a value.

    Args:
        channels: the channels of the features (2,048).
        words, answers: the sizes of the vocabularies (3,129 answers).
        embedded: the size of word embeddings (300).
        hidden: the size of the question's GRU and of all projections (1,280; 1,024 in the efficient reimplementation of
            the challenge's winner).
        heads: attention heads (2; 1 as in the paper).
        inner: the hidden size of the classifier; None is ``2 * hidden``.
        dropout: the rates.

    Differs from the paper: ReLU for gated tanh, weight normalisation, two heads, and a layer after the product in each.
    Differs from the released code: the GRU ends at the last word instead of reading padding in front of the first one;
    initial weights are torch's, and word embeddings are not GloVe's.

    >>> net = UpDownVQA(6, words=9, answers=3, embedded=4, hidden=5)
    >>> output = net(torch.rand(2, 6, 7, 1), torch.tensor([[4, 5], [6, 0]]))
    >>> output.logits.shape, output.attention.shape
    (torch.Size([2, 3]), torch.Size([2, 2, 7, 1]))
    """

    def __init__(
        self,
        channels: int,
        words: int,
        answers: int = 3129,
        embedded: int = 300,
        hidden: int = 1280,
        heads: int = 2,
        inner: int | None = None,
        dropout: UpDownDropout = DROPOUT,
    ) -> None:
        super().__init__()
        inner = 2 * hidden if inner is None else inner
        self.embedding, self.word_dropout = nn.Embedding(words, embedded, padding_idx=0), nn.Dropout(dropout.words)
        self.gru = nn.GRU(embedded, hidden, batch_first=True)
        self.attention_heads = nn.ModuleList(
            ProductAttention(channels, hidden, hidden, dropout.attention) for _ in range(heads)
        )
        self.attention_pooling = AttentionPooling()
        self.image_projection = _nonlinear(channels, hidden, dropout.fusion)
        self.question_projection = _nonlinear(hidden, hidden, dropout.fusion)
        self.answer = nn.Sequential(_nonlinear(hidden, inner, dropout.classifier), _linear(inner, answers))

    def encode_question(self, question: Sentences) -> Float[Tensor, "batch state"]:
        """Return the state of the GRU after the last word of every question."""
        states: Tensor = self.gru(self.word_dropout(self.embedding(question)))[0]
        last = (question != 0).sum(1).clamp_min(1) - 1
        return states[torch.arange(len(states), device=states.device), last]

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """Return the product of the attended regions and the question, and the attention of every head."""
        v, q = features.flatten(2).mT, self.encode_question(question)  # [batch, region, channel], [batch, state]
        logits = torch.stack([head(v, q) for head in self.attention_heads], 1)
        attention, pooled = self.attention_pooling(without_padding(logits, v), v)
        found = self.image_projection(pooled.sum(1)) * self.question_projection(q)
        return found, attention.unflatten(2, features.shape[2:])


def answer_loss(logits: Logits, scores: Float[Tensor, "batch answer"]) -> Float[Tensor, ""]:
    r"""Return the binary cross entropy of soft scores, summed over answers: the loss of UpDn's classifier.

    .. math:: L = -\frac{1}{B} \sum_b \sum_c s_{bc} \log \sigma(y_{bc}) + (1 - s_{bc}) \log(1 - \sigma(y_{bc}))

    (Anderson et al., 2018, section 3.3, after Teney et al., 2018.) The released code takes the mean over answers and
    multiplies it by their number, which is the same.

    Args:
        logits: ``y`` [batch, answer].
        scores: ``s`` [batch, answer], from 0 to 1: the accuracy of each answer by people's answers.

    >>> answer_loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.3, 0.0]]))
    tensor(2.0794)
    """
    return F.binary_cross_entropy_with_logits(logits, scores, reduction="sum") / len(logits)
