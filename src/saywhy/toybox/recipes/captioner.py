"""The recipe of ``toybox:captioner``: ``python -m saywhy.toybox.recipes.captioner --out weights.safetensors``.

It sees through the eyes of ``toybox:vqa``, which stay as they are, so what they see of every image is computed once.
"""

import json
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from rich.progress import Progress
from torch import Tensor, nn

from saywhy.models import load
from saywhy.tasks.captioning.generate import decode_captions
from saywhy.tasks.captioning.networks import CaptionModel, TopDown, head_generation
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox import scene
from saywhy.toybox.language.truth import mentions
from saywhy.toybox.models.classifier import normalised
from saywhy.toybox.models.language import ToyboxCaptionHead
from saywhy.toybox.recipes.language_tensors import followed
from saywhy.training.checkpoint import check_name, half, save_weights
from saywhy.training.command import Accelerator, Count, Threads, run_recipe
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize, step_generator

SCENES = 12_000
TEST_SCENES = 1_000
STEPS = 5_000
PLAN = Plan((), batch=64, rate=2e-3, clip=5.0)


def fresh(seed: int, known: Vocabulary, sees: VQAModel) -> CaptionModel:
    """Random weights behind the eyes of ``toybox:vqa``, which are not trained again; things are found as there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ToyboxCaptionHead(len(known))
    head.objects.load_state_dict(sees.head.objects.state_dict())  # type: ignore[union-attr]
    sees.trunk.requires_grad_(False)
    return CaptionModel(sees.trunk.eval(), head)


def seen(eyes: nn.Module, images: Tensor) -> Tensor:
    """Features of images uint8, [scene, channel, 16, 16], float16."""
    eyes.eval()
    with torch.inference_mode():
        return torch.cat([eyes(normalised(part.float() / 255)).half() for part in images.split(100)])


def learn(
    network: CaptionModel,
    features: Tensor,
    captions: Tensor,
    plan: Plan,
    steps: int = STEPS,
    checkpoint: Path | None = None,
    report: Tell | None = None,
    every: int = 100,
    devices: Devices = HERE,
) -> float:
    """Train the head, in place, on one caption [scene, caption, word] of each scene of a batch, and return the seconds;
    see ``optimize``.
    """

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        generator = step_generator(plan.seed, -1 - step)
        taken = torch.randint(len(features), (plan.batch,), generator=generator)
        which = torch.randint(captions.shape[1], (plan.batch,), generator=generator)
        taken, which = taken[share], which[share]
        said = captions[taken, which]
        said = said[:, : int((said != 0).sum(1).max())]
        likely = model(features[taken].float(), said).log_probabilities()
        return -likely.sum() / int((said != 0).sum() + len(said))  # the words, and END

    seen_as = float(features[:8].double().sum())  # eyes that were trained again see something else
    settings = {**plan.settings(), "scenes": len(features), "steps": steps, "seen as": seen_as}
    return optimize(network.head, loss, steps, plan, settings, checkpoint, every, report, devices)


def describe(head: TopDown, features: Tensor, known: Vocabulary) -> list[str]:
    """A caption of every image."""
    head.eval()
    with torch.inference_mode():
        parts = [decode_captions(head_generation(head, part)) for part in features.float().split(50)]
    return [known.decode(found.sentence(i)) for found in parts for i in range(len(found.words))]


def truth(texts: list[str], split: str) -> dict[str, float]:
    """The share of right mentions of kinds, colours and counts in captions of the first scenes of a split."""
    said: dict[str, list[bool]] = defaultdict(list)
    for index, text in enumerate(texts):
        for mention in mentions(text, scene(split, index)):
            said[mention.claim].append(mention.right)
    return {claim: sum(right) / len(right) for claim, right in sorted(said.items())}


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    steps: int,
    progress: Progress,
    devices: Devices = HERE,
    sees: VQAModel | None = None,
) -> dict[str, str]:
    """Draw, train, measure and write the weights; returns the file's metadata. ``sees`` is else ``toybox:vqa``."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    shown, judged = (
        followed(split, count, progress) for split, count in (("talk-train", scenes), ("talk-test", tests))
    )
    known = Vocabulary.of(text for of_scene in shown.said for text in of_scene)
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    network = fresh(seed, known, sees or load("toybox:vqa").module)  # type: ignore[arg-type]
    features = seen(network.trunk, shown.images)
    bar, drawing = progress.add_task("training", total=steps, loss=""), perf_counter() - begin
    trained = learn(
        network,
        features,
        shown.captions(known),
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # what is measured is what is shipped: float16
    texts = describe(network.head, seen(network.trunk, judged.images), known)
    metadata = {
        "model": "toybox:captioner",
        "words": "\n".join(known.words),
        "seed": str(seed),
        "steps": str(steps),
        "scenes": str(scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "test_scenes": str(tests),
        "test_truth": json.dumps({claim: round(share, 4) for claim, share in truth(texts, "talk-test").items()}),
        "words_a_caption": f"{sum(len(text.split()) for text in texts) / len(texts):.1f}",
        "different_captions": str(len(set(texts))),
    }
    save_weights(out, weights, metadata)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return metadata


def main(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Decides first weights and order.")] = 0,
    scenes: Annotated[int, typer.Option(min=64, help="Scenes to train on.")] = SCENES,
    tests: Annotated[int, typer.Option(min=50, help="Scenes to measure on.")] = TEST_SCENES,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = STEPS,
    threads: Threads = 2,
    accelerator: Accelerator = "cpu",
    devices: Count = 1,
) -> None:
    """Train what captions Toybox, and measure it. Stop it with Ctrl-C; the same command goes on."""
    on = Devices(accelerator, devices)
    run_recipe(lambda progress: train(out, seed, scenes, tests, steps, progress, on), threads, hidden=("words",))


if __name__ == "__main__":
    typer.run(main)
