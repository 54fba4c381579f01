"""What the recipes of ``toybox:captioner`` and ``toybox:questioner`` share: features, and texts of all images."""

import torch
from torch import Tensor, nn

from saywhy.tasks.generation.generate import decode_texts
from saywhy.tasks.generation.networks import ShowAndTell, TopDown, head_generation
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox.models.classifier import normalised

TextHead = ShowAndTell | TopDown
"""Heads without, and with attention."""


def trunk_features(trunk: nn.Module, images: Tensor) -> Tensor:
    """Return the features of images (uint8): [scene, channel, 16, 16], float16."""
    trunk.eval()
    with torch.inference_mode():
        return torch.cat([trunk(normalised(part.float() / 255)).half() for part in images.split(100)])


def describe(head: TextHead, features: Tensor, known: Vocabulary) -> list[str]:
    """Return the generated text of every image, by beam search."""
    head.eval()
    with torch.inference_mode():
        parts = [decode_texts(head_generation(head, part)) for part in features.float().split(50)]
    return [known.decode(found.sentence(i)) for found in parts for i in range(len(found.words))]
