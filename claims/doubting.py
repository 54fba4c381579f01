"""Networks that say how certain they are: U-CAM's, what it is compared with, and controls that know nothing.

All of one seed begin with the same weights, see the same questions in the same order, and take as many steps.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import saywhy
from saywhy.data.toybox.talk import ANSWERS
from saywhy.models.toybox_talk import CHANNELS, ToyboxEyes, places
from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.spread import VarianceHead
from saywhy.tasks.vocabulary import Sentences, Vocabulary
from saywhy.tasks.vqa import Answering, Answers, ShowAskAttendAnswer
from saywhy.training.loop import Plan, descend
from saywhy.training.toybox_ucam import Questions, asking, optimizers
from saywhy.uncertainty import Gate, UCam
from saywhy.uncertainty.loss import cross_entropy

FOLDER = Path("out/claims")
STEPS = 1200
STRENGTH = 1.0

RUNS: dict[str, UCam | None] = {
    "base": None,
    "no surgery": UCam(gate=Gate(0.0)),
    "U-CAM": UCam(gate=Gate(STRENGTH)),
    "literal": UCam(gate=Gate(STRENGTH, "literal")),
    "shuffled": UCam(gate=Gate(STRENGTH, "shuffled")),
    "random": UCam(gate=Gate(STRENGTH, "random")),
    "uniform": UCam(gate=Gate(STRENGTH, "uniform")),
    "P-GCA": UCam("predictive", gate=Gate(STRENGTH)),
}
"""By name how they are trained; the base learns answers alone."""

CONTROLS = ("no surgery", "shuffled", "random", "uniform")
"""What U-CAM must beat besides the base: the same losses without the mask, or with one that knows nothing."""

PLAN = Plan((), batch=32, rate=2e-3, clip=5.0)


class Placed(nn.Module):
    """Features of Toybox's eyes with the row and the column of every place."""

    def __init__(self, eyes: ToyboxEyes) -> None:
        super().__init__()
        self.eyes = eyes

    def forward(self, images: Images) -> FeatureMaps:
        """Of pictures that are normalised."""
        return with_places(self.eyes(images))


def with_places(features: FeatureMaps) -> FeatureMaps:
    """Features, and where each of them is."""
    return torch.cat([features, places(features)], 1)


class Learner(nn.Module):
    """What learns, by the loss of a run."""

    def __init__(self, head: ShowAskAttendAnswer, how: UCam | None) -> None:
        super().__init__()
        self.head, self.how = head, how

    def forward(self, features: Tensor, words: Tensor, shares: Tensor) -> Tensor:
        """The loss of some questions."""
        if self.how is not None:
            return self.how.asked(self.head, with_places(features), words, shares)
        return cross_entropy(self.head(with_places(features), words).logits, shares).mean()


@dataclass(frozen=True)
class Doubter:
    """A network of a run.

    Attributes:
        run, seed: which.
        head: of features with places, and words.
        seconds: that its training took; 0 if it was there already.
    """

    run: str
    seed: int
    head: ShowAskAttendAnswer
    seconds: float

    def model(self, eyes: ToyboxEyes) -> saywhy.Model:
        """The network of pictures and questions."""
        return saywhy.load(Answering(Placed(eyes), self.head), labels=ANSWERS)


def fresh(seed: int, words: int) -> ShowAskAttendAnswer:
    """Random weights: U-CAM's base network, small, with a variance head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ShowAskAttendAnswer(
            CHANNELS + 2, words, len(ANSWERS), embedded=64, hidden=128, attended=96, inner=256, dropout=0.25
        )
        head.spread = VarianceHead(len(ANSWERS))
    return head


def doubter(
    run: str, seed: int, known: Vocabulary, shown: Questions, progress: Progress, steps: int = STEPS
) -> Doubter:
    """The network of a run, trained unless it was trained before."""
    head, how = fresh(seed, len(known)), RUNS[run]
    file = FOLDER / f"doubter-{run.lower().replace(' ', '-')}-{seed}-{steps}.safetensors"
    if file.exists():
        head.load_state_dict(load_file(file))
        return Doubter(run, seed, head.eval(), 0.0)
    bar = progress.add_task(f"{run}, seed {seed}", total=steps, loss="")
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)

    seconds = descend(
        Learner(head, how),
        asking(shown, plan),
        steps,
        plan,
        {**plan.settings(), "how": repr(how), "steps": steps, "scenes": len(shown)},
        file.with_suffix(".checkpoint"),
        tell=lambda step, value: progress.update(bar, completed=step, loss=f"loss {value:.3f}"),
        optimizers=optimizers,
    )
    save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, file)
    file.with_suffix(".checkpoint").unlink(missing_ok=True)
    return Doubter(run, seed, head.eval(), seconds)


def said(head: ShowAskAttendAnswer, features: Tensor, words: Sentences) -> Answers:
    """What a head says of stored features."""
    answers: Answers = head(with_places(features.float()), words)
    return answers
