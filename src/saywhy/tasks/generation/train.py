"""Training of a head that generates text, on the features of a frozen trunk; for captions and for questions."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.shapes import FeatureMaps
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize, step_generator


def learn(
    head: nn.Module,
    features: FeatureMaps,
    texts: Int[Tensor, "image text word"],
    plan: Plan,
    steps: int,
    checkpoint: Path | None = None,
    report: Tell | None = None,
    every: int = 100,
    devices: Devices = HERE,
) -> float:
    """Train a head in place, on one of the texts of each image of a batch; returns the seconds.

    Args:
        head: takes features and a text, and returns a :class:`~saywhy.tasks.generation.networks.CaptionOutput`.
        features: [image, channel, row, column], of the frozen trunk; of any floating-point dtype.
        texts: word numbers, padded with 0. An image with fewer texts than others has some of them twice.
        plan, checkpoint, report, every, devices: as for :func:`saywhy.training.loop.optimize`.
        steps: the number of batches of ``plan.batch`` images.

    Raises:
        InputError: there are not as many images with texts as with features, or a text is empty.
    """
    if texts.ndim != 3 or len(texts) != len(features) or not bool((texts[..., 0] != 0).all()):
        raise InputError(
            f"expected texts [image, text, word] of at least one word each for {len(features)} images, got the shape "
            f"{list(texts.shape)}{' with an empty text' if texts.ndim == 3 else ''}. Repeat a text where an image has "
            "fewer than others."
        )

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        generator = step_generator(plan.seed, -1 - step)
        taken = torch.randint(len(features), (plan.batch,), generator=generator)
        which = torch.randint(texts.shape[1], (plan.batch,), generator=generator)
        taken, which = taken[share], which[share]
        words = texts[taken, which]
        words = words[:, : int((words != 0).sum(1).max())]
        value: Tensor = model(features[taken].float(), words).cross_entropy()
        return value

    checksum = float(features[:8].double().sum())  # it differs if the trunk was trained again
    settings = {**plan.settings(), "scenes": len(features), "steps": steps, "features_checksum": checksum}
    return optimize(head, loss, steps, plan, settings, checkpoint, every, report, devices)
