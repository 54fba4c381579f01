"""The base network of the U-CAM experiments: trunk and question encoder of ``toybox:vqa``, with a new attention head.

``toybox:vqa`` itself also compares objects outside of its attention, so that its answers depend little on attention.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.fusion import FUSIONS
from saywhy.tasks.vqa.networks import AttentionPooling, Glimpses, VQAHead, VQAModel
from saywhy.toybox.language import ANSWERS
from saywhy.toybox.models.vision_language import FAR, GLIMPSES, ToyboxVQAHead, places
from saywhy.toybox.recipes.ucam import Questions
from saywhy.uncertainty.variance_head import VarianceHead

DROPOUT = 0.2
WORDS_SCALE = 8.0
"""Divisor of the word embeddings, which scales them to the size of the other features."""


class VisualFeatures(nn.Module):
    """Features of ``toybox:vqa`` and its predictions at every position, average-pooled to half the resolution.

    The predictions are the kind, the colour, whether an object is centred there, the word embedding, row and column.

    Args:
        base: ``toybox:vqa``.
    """

    def __init__(self, base: VQAModel) -> None:
        super().__init__()
        assert isinstance(base.head, ToyboxVQAHead)
        self.backbone, self.objects, self.word = base.trunk, base.head.objects, base.head.grounding.object_projection

    def forward(self, images: Images) -> FeatureMaps:
        """Return the features of normalised images."""
        return self.augment(self.backbone(images))

    def augment(self, features: FeatureMaps) -> FeatureMaps:
        """Return the trunk's features with the predictions appended."""
        kinds, colours = self.objects.kind(features).softmax(1), self.objects.colour(features).softmax(1)
        everything = torch.cat([features, FAR * places(features), kinds, colours], 1)
        words = self.word(everything.movedim(1, -1)).movedim(-1, 1) / WORDS_SCALE
        centres = self.objects.centre(features).sigmoid()
        pooled = nn.functional.avg_pool2d(torch.cat([features, words, 2 * kinds, 2 * colours, 2 * centres], 1), 2)
        return torch.cat([pooled, places(pooled)], 1)

    @torch.inference_mode()
    def replace_features(self, questions: Questions) -> Questions:
        """Replace the features of questions by these, in place, and return the questions."""
        questions.features = torch.cat([self.augment(part.float()).half() for part in questions.features.split(200)])
        return questions


class AttentionVQAHead(VQAHead):
    """A VQA head with two attention glimpses: U-CAM's base network, small.

    It follows Show, Ask, Attend and Answer (Kazemi and Elqursh, 2017), with three differences: features and question
    are fused by a product, features are not normalised, and the question encoder (embedding and LSTM) is that of
    ``toybox:vqa``, which is trained further.
    """

    def __init__(self, base: ToyboxVQAHead, channels: int, attended: int = 96, inner: int = 256) -> None:
        super().__init__()
        self.embedding, self.lstm = deepcopy(base.embedding), deepcopy(base.lstm)
        self.fusion = FUSIONS["product"](channels, base.lstm.hidden_size, attended)
        self.dropout, self.attention_logit, self.attention_pooling = (
            nn.Dropout(DROPOUT),
            nn.Linear(attended, GLIMPSES),
            AttentionPooling(),
        )
        self.answer = nn.Sequential(
            nn.Linear(GLIMPSES * channels + base.lstm.hidden_size, inner),
            nn.Sequential(nn.ReLU(), nn.Dropout(DROPOUT)),
            nn.Linear(inner, inner),
            nn.Sequential(nn.ReLU(), nn.Dropout(DROPOUT)),
            nn.Linear(inner, len(ANSWERS)),
        )
        self.variance_head = VarianceHead(len(ANSWERS))

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """Return the attended features of both glimpses with the question, and the attention maps."""
        hidden, _ = self.lstm(self.embedding(question))
        q = hidden[torch.arange(len(hidden)), (question != 0).sum(1).clamp_min(1) - 1]
        v = features.flatten(2).mT  # [batch, place, channel]
        attention, attended = self.attention_pooling(
            self.attention_logit(self.dropout(self.fusion(v, q.unsqueeze(1)))).mT, v
        )
        return torch.cat([attended.flatten(1), q], 1), attention.unflatten(2, features.shape[2:])


def initialized_head(seed: int, base: VQAModel, channels: int) -> AttentionVQAHead:
    """Return an untrained head: random weights, except those of the question encoder."""
    assert isinstance(base.head, ToyboxVQAHead)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttentionVQAHead(base.head, channels)
