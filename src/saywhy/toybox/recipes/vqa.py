"""The recipe of ``toybox:vqa``: ``python -m saywhy.toybox.recipes.vqa --out weights.safetensors``.

First the eyes learn to tell kind, colour and middle of what is in every cell of a grid, and which words of a question
name it; then questions are answered with them, the eyes learning on. The classifier behind the eyes stays as it is, so
what it sees of every image is computed once. Nobody is told where to look for an answer.
"""

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from jaxtyping import Bool, Float, Int
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.models import load
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import QuestionOnly, VQAModel
from saywhy.toybox import COLOURS, KINDS
from saywhy.toybox.language import ANSWERS, TYPES
from saywhy.toybox.language.question import plural
from saywhy.toybox.models.classifier import normalised
from saywhy.toybox.models.language import CHANNELS, ToyboxTrunk, ToyboxVQAHead
from saywhy.toybox.recipes.language_tensors import Talk, followed
from saywhy.training.checkpoint import check_name, half, save_weights
from saywhy.training.command import Accelerator, Count, Threads, run_recipe
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize, step_generator

SCENES = 20_000
TEST_SCENES = 2_000
SEEING, ASKING = 1_000, 6_500
"""Steps for the eyes alone, and for eyes and answers."""

ASKED = 5
"""Questions of a scene in one step."""

RARELY = {"colour": 0.7, "kind": 0.5, "exists": 1.0, "compare": 1.0, "largest": 1.0, "smallest": 1.5, "count": 1.5}
OFTEN = [RARELY.get(name, 2.5) for name in TYPES]
"""How much rather than another a type of question is asked in training: those that take longer to learn more often."""

MIDDLES, NAMES = 20.0, 5.0
"""How much a missed middle counts: one cell of a hundred has one; and a missed name, as most words name nothing."""

PLAN = Plan((), batch=48, rate=2e-3, clip=5.0)


class Learner(nn.Module):
    """The parts that learn: the eyes' last layers, the answers, and what is only told while learning (cells)."""

    def __init__(self, network: VQAModel, known: Vocabulary) -> None:
        super().__init__()
        self.features: nn.Module = network.trunk.features  # type: ignore[assignment]
        self.head: ToyboxVQAHead = network.head  # type: ignore[assignment]
        self.means: Tensor
        self.register_buffer("means", meanings(known), persistent=False)
        self.measures = nn.Conv2d(CHANNELS, 3, 1)

    def forward(
        self,
        depths: Float[Tensor, "scene depth 16 16"],
        cells: Int[Tensor, "scene 6 16 16"],
        scenes: Int[Tensor, " question"],
        questions: Int[Tensor, "question word"],
        answers: Int[Tensor, " question"] | None = None,
    ) -> Tensor:
        """The loss: of the cells, of the words that name things, and of the answers where there are any."""
        features = self.features(depths)
        middle, objects = cells[:, 2] > 0, self.head.objects
        there, measures = objects.middle(features)[:, 0], self.measures(features)
        loss = F.cross_entropy(objects.kind(features), cells[:, 0])
        loss = loss + F.cross_entropy(objects.colour(features), cells[:, 1])
        loss = loss + MIDDLES * F.binary_cross_entropy_with_logits(there, middle.float())
        told = cells[:, 3:].movedim(1, -1)[middle] / 256
        loss = loss + F.smooth_l1_loss(measures.movedim(1, -1)[middle], told, beta=0.05)
        loss = loss + self._named(features, cells, scenes, questions)
        if answers is not None:
            loss = loss + F.cross_entropy(self.head(features[scenes], questions).logits, answers)
        return loss

    def _named(self, features: Tensor, cells: Tensor, scenes: Tensor, questions: Tensor) -> Tensor:
        """The loss of the names of things: a word means all the things that have its kind or its colour."""
        found = self.head.objects(features)
        kinds, colours = (part.flatten(1).gather(1, found.at)[scenes] for part in (cells[:, 0], cells[:, 1]))
        told = self.head.meant.alike(found.objects[scenes], self.head.embedding(questions))
        asked = questions.unsqueeze(1).expand_as(told)
        right = (self.means[kinds] | self.means[len(KINDS) + 1 + colours]).gather(2, asked)
        rare = told.new_tensor(NAMES)
        return F.binary_cross_entropy_with_logits(told[asked != 0], right[asked != 0].float(), pos_weight=rare)


def meanings(known: Vocabulary) -> Bool[Tensor, "trait word"]:
    """Which words name a kind (a row of each, and one for no kind), and which a colour (the same)."""
    named = [{kind, plural(kind)} for kind in KINDS] + [set()] + [{colour} for colour in COLOURS] + [set()]
    return torch.tensor([[word in names for word in known.words] for names in named])


def fresh(seed: int, known: Vocabulary) -> VQAModel:
    """Random weights behind the classifier's eyes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        eyes = ToyboxTrunk()
        network = VQAModel(eyes, ToyboxVQAHead(len(known), len(ANSWERS)))
    classifier = load("toybox:classifier").module
    for part in ("stem", "blocks"):
        getattr(eyes, part).load_state_dict(getattr(classifier, part).state_dict())
        getattr(eyes, part).requires_grad_(False)
    return network


def seen(eyes: ToyboxTrunk, images: Tensor) -> Tensor:
    """What the classifier sees of images uint8, [scene, depth, 16, 16], float16."""
    eyes.eval()
    with torch.inference_mode():
        return torch.cat([eyes.depths(normalised(part.float() / 255)).half() for part in images.split(100)])


def drawn(answers: Tensor, plan: Plan, step: int, share: slice) -> tuple[Tensor, Tensor, Tensor]:
    """The scenes of a share of a step, and of its questions (at most ``ASKED`` a scene) their scene among these, and
    type.
    """
    generator = step_generator(plan.seed, -1 - step)
    taken = torch.randint(len(answers), (plan.batch,), generator=generator)
    liked = torch.rand(plan.batch, answers.shape[1], generator=generator) ** (1 / torch.tensor(OFTEN))
    liked = liked.masked_fill(answers[taken] < 0, -1)
    best, types = (part[share] for part in liked.topk(ASKED, 1))
    scenes, place = (best >= 0).nonzero(as_tuple=True)
    return taken[share], scenes, types[scenes, place]


def learn(
    network: VQAModel,
    depths: Tensor,
    scenes: Talk,
    known: Vocabulary,
    plan: Plan,
    steps: tuple[int, int] = (SEEING, ASKING),
    checkpoint: Path | None = None,
    report: Tell | None = None,
    every: int = 100,
    devices: Devices = HERE,
) -> float:
    """Train eyes and answers, in place, and return the seconds; see :func:`saywhy.training.loop.optimize`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        learner = Learner(network, known)
    words, answers = scenes.questions(known)

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = drawn(answers, plan, step, share)
        inputs = depths[taken].float(), scenes.cells[taken].long(), which, words[taken][which, types]
        return model(*inputs) if step < steps[0] else model(*inputs, answers[taken][which, types])

    settings = {
        **plan.settings(),
        "scenes": len(depths),
        "seeing": steps[0],
        "asking": steps[1],
        "words": list(known.words),
        "often": OFTEN,
        "asked": ASKED,
        "counts": [MIDDLES, NAMES],
    }
    seconds = optimize(learner, loss, sum(steps), plan, settings, checkpoint, every, report, devices)
    network.eval()
    return seconds


def accuracy(network: nn.Module, features: Tensor, scenes: Talk, known: Vocabulary) -> dict[str, float]:
    """The share of questions answered rightly, "overall" and of every type, by a network of features and questions."""
    words, answers = scenes.questions(known)
    right = torch.zeros_like(answers, dtype=torch.bool)
    with torch.inference_mode():
        for start in range(0, len(answers), 50):
            part = slice(start, start + 50)
            of, types = (answers[part] >= 0).nonzero(as_tuple=True)
            said = network(features[part][of], words[part][of, types]).logits.argmax(1)
            right[part][of, types] = said == answers[part][of, types]
    asked = answers >= 0
    by_type = {name: float(right[:, i].sum() / asked[:, i].sum().clamp_min(1)) for i, name in enumerate(TYPES)}
    return {"overall": float(right.sum() / asked.sum()), **by_type}


def guessed(scenes: Talk, tests: Talk, known: Vocabulary, plan: Plan, steps: int = 1500) -> dict[str, float]:
    """What a network reaches that never sees the image: :class:`saywhy.tasks.vqa.networks.QuestionOnly`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        blind = QuestionOnly(len(known), len(ANSWERS), embedded=64, hidden=128, dropout=0.2)
    words, answers = scenes.questions(known)
    nothing = torch.zeros(len(answers), 1, 1, 1)

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken, which, types = drawn(answers, plan, step, share)
        said = model(nothing[taken][which], words[taken][which, types])
        return F.cross_entropy(said.logits, answers[taken][which, types])

    optimize(blind, loss, steps, plan, plan.settings())
    return accuracy(blind, torch.zeros(len(tests.asked), 1, 1, 1), tests, known)


def train(
    out: Path,
    seed: int,
    scenes: int,
    tests: int,
    steps: tuple[int, int],
    progress: Progress,
    devices: Devices = HERE,
) -> dict[str, str]:
    """Draw, train, measure and write the weights; returns the file's metadata."""
    check_name(out)
    devices.fabric()
    begin = perf_counter()
    shown, judged = (
        followed(split, count, progress) for split, count in (("talk-train", scenes), ("talk-test", tests))
    )
    known = Vocabulary.of(text for of_scene in shown.asked for _, text, _ in of_scene)
    plan = Plan((), batch=PLAN.batch, rate=PLAN.rate, clip=PLAN.clip, seed=seed)
    network = fresh(seed, known)
    depths = seen(network.trunk, shown.images)  # type: ignore[arg-type]
    bar, drawing = progress.add_task("training", total=sum(steps), loss=""), perf_counter() - begin
    trained = learn(
        network,
        depths,
        shown,
        known,
        plan,
        steps,
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = half(network.state_dict())
    network.load_state_dict(weights)  # what is measured is what is shipped: float16
    depths = seen(network.trunk, judged.images)  # type: ignore[arg-type]
    with torch.inference_mode():
        features = torch.cat([network.trunk.features(part.float()) for part in depths.split(100)])  # type: ignore
    reached = accuracy(network.head, features, judged, known)
    metadata = {
        "model": "toybox:vqa",
        "words": "\n".join(known.words),
        "answers": ",".join(ANSWERS),
        "seed": str(seed),
        "steps": " + ".join(map(str, steps)),
        "scenes": str(scenes),
        "minutes": f"{(drawing + trained) / 60:.1f}",
        "test_scenes": str(tests),
        "test_accuracy": json.dumps({name: round(value, 4) for name, value in reached.items()}),
        "guessed": json.dumps({name: round(v, 4) for name, v in guessed(shown, judged, known, plan).items()}),
    }
    save_weights(out, weights, metadata)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return metadata


def main(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Decides first weights and order.")] = 0,
    scenes: Annotated[int, typer.Option(min=64, help="Scenes to train on.")] = SCENES,
    tests: Annotated[int, typer.Option(min=50, help="Scenes to measure on.")] = TEST_SCENES,
    seeing: Annotated[int, typer.Option(min=0, help="Steps for the eyes alone.")] = SEEING,
    asking: Annotated[int, typer.Option(min=1, help="Steps for eyes and answers.")] = ASKING,
    threads: Threads = 2,
    accelerator: Accelerator = "cpu",
    devices: Count = 1,
) -> None:
    """Train what answers questions about Toybox, and measure it. Stop it with Ctrl-C; the same command goes on."""
    on = Devices(accelerator, devices)
    run_recipe(
        lambda progress: train(out, seed, scenes, tests, (seeing, asking), progress, on), threads, hidden=("words",)
    )


if __name__ == "__main__":
    typer.run(main)
