"""The network on which U-CAM is tried: it sees and reads as ``toybox:vqa`` does, and learns where to look.

``toybox:vqa`` itself compares objects beside looking at them, so that little hangs on where it looks.
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
"""By which places in the space of words are divided, to be about as large as the rest."""


class VisualFeatures(nn.Module):
    """What ``toybox:vqa`` has learnt to see: its features, and what it says of every place, at half of their size.

    That is the kind, the colour, whether an object has its middle there, the place in the space of words, row, column.

    Args:
        base: ``toybox:vqa``.
    """

    def __init__(self, base: VQAModel) -> None:
        super().__init__()
        assert isinstance(base.head, ToyboxVQAHead)
        self.eyes, self.objects, self.word = base.trunk, base.head.objects, base.head.meant.thing

    def forward(self, images: Images) -> FeatureMaps:
        """Of images that are normalised."""
        return self.augment(self.eyes(images))

    def augment(self, features: FeatureMaps) -> FeatureMaps:
        """Of what the eyes see."""
        kinds, colours = self.objects.kind(features).softmax(1), self.objects.colour(features).softmax(1)
        everything = torch.cat([features, FAR * places(features), kinds, colours], 1)
        words = self.word(everything.movedim(1, -1)).movedim(-1, 1) / WORDS_SCALE
        middles = self.objects.middle(features).sigmoid()
        pooled = nn.functional.avg_pool2d(torch.cat([features, words, 2 * kinds, 2 * colours, 2 * middles], 1), 2)
        return torch.cat([pooled, places(pooled)], 1)

    @torch.inference_mode()
    def replace_features(self, questions: Questions) -> Questions:
        """The same questions, with this of their images in place of the features."""
        questions.features = torch.cat([self.augment(part.float()).half() for part in questions.features.split(200)])
        return questions


class AttentionVQAHead(VQAHead):
    """Two glimpses of the image, and an answer from them: U-CAM's base network, small.

    As Show, Ask, Attend and Answer (Kazemi and Elqursh, 2017), but that place and question meet in a product, features
    keep their length, and the question is read as ``toybox:vqa`` reads it: by its words and LSTM, which learn on.
    """

    def __init__(self, base: ToyboxVQAHead, channels: int, attended: int = 96, inner: int = 256) -> None:
        super().__init__()
        self.embedding, self.lstm = deepcopy(base.embedding), deepcopy(base.lstm)
        self.fusion = FUSIONS["product"](channels, base.lstm.hidden_size, attended)
        self.dropout, self.look, self.attention_pooling = (
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
        """What both glimpses found, and the question."""
        hidden, _ = self.lstm(self.embedding(question))
        q = hidden[torch.arange(len(hidden)), (question != 0).sum(1).clamp_min(1) - 1]
        v = features.flatten(2).mT  # [batch, place, channel]
        attention, attended = self.attention_pooling(self.look(self.dropout(self.fusion(v, q.unsqueeze(1)))).mT, v)
        return torch.cat([attended.flatten(1), q], 1), attention.unflatten(2, features.shape[2:])


def initialized_head(seed: int, base: VQAModel, channels: int) -> AttentionVQAHead:
    """A network that looks nowhere yet: random weights, but those that read."""
    assert isinstance(base.head, ToyboxVQAHead)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttentionVQAHead(base.head, channels)
