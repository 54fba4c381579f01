"""What the recipes of ``toybox:captioner`` and ``toybox:questioner`` share: features, and texts of all images."""

import torch
from torch import Tensor, nn

from saywhy.decoding import diverse_beam_search
from saywhy.tasks.generation.generate import DIVERSITY_PENALTY, MAX_LENGTH, MIN_LENGTH, decode_texts
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


def describe_diversely(head: TextHead, features: Tensor, known: Vocabulary, num_beams: int = 6) -> list[list[str]]:
    """Return several texts of every image, by diverse beam search with as many groups as beams, the likeliest first."""
    head.eval()
    texts: list[list[str]] = []
    for part in features.float().split(50):
        with torch.inference_mode():
            ready = head_generation(head, part)
            found = diverse_beam_search(
                ready.step,
                ready.state,
                ready.start,
                end=ready.end,
                max_length=MAX_LENGTH,
                min_length=MIN_LENGTH,
                num_beams=num_beams,
                num_beam_groups=num_beams,
                diversity_penalty=DIVERSITY_PENALTY,
                suppress_tokens=ready.suppress_tokens,
                length_penalty=1.0,
                refill=True,
            ).found
        texts += [[known.decode(found.sentence(i, place)) for place in range(num_beams)] for i in range(len(part))]
    return texts
