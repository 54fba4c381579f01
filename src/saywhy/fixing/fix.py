"""``fix``: train a classifier on hints, with its controls and baselines, and say whether the hints helped."""

import copy
import json
import math
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.alignment.hint_files import read_hints
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.load_labelled import read_labelled
from saywhy.engine.capture import Watched
from saywhy.engine.exclusive import exclusive
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, LayerError
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.layers import LayerChoice
from saywhy.explainer.prepare import prepare
from saywhy.fixing.augment import HintedAugmentation
from saywhy.fixing.evaluate import Evaluation, evaluate, predictions
from saywhy.fixing.examples import FixExample, examples
from saywhy.fixing.inputs import ImageInputs, check_outputs
from saywhy.fixing.methods import FIX_METHODS, FixMethod, fix_method
from saywhy.fixing.runs import FinishedRuns, complete, distinct, run_all
from saywhy.fixing.train import DEFAULT_AUGMENTATION, Settings, Trainer
from saywhy.fixing.verdict import FixVerdict, Runs, deciding_split, verdict
from saywhy.io.atomic import write_text
from saywhy.models import Model, load
from saywhy.models.weights import load_weights
from saywhy.targets import as_target
from saywhy.training.checkpoint import save_weights
from saywhy.training.loop import Devices
from saywhy.validation import NonNegativeFloat, PositiveFloat, PositiveInt, validate, validated

CONTROLS = ("erm", "random-hints")
"""What a fix is compared with unless other methods are named."""

FORMAT_VERSION = 1
"""The version of the format of ``fix.json``."""


@dataclass(frozen=True)
class Fix:
    """A fixed model, and what it was compared with.

    Attributes:
        model: a copy of the model, float32 on the CPU, with the weights of the first finished seed of ``method``; those
            before if there is none.
        method: the method that was asked for.
        before: the model as it was given.
        runs: evaluations of every method and seed that is finished, ``method`` included.
        verdict: whether the hints helped; None if a run is missing for it.
        layer: the layer of maps.
        hinted: the number of training images with a hint, and of all training images.
        settings: of the training.
        examples: held-out images with the maps of both models.
        stopped: why runs are missing; "" if none is.
        failed: why runs ended without weights (a loss that was NaN), by method and seed; the others went on.
        seconds: how long each run was trained.
    """

    model: Model
    method: str
    before: Evaluation
    runs: Runs
    verdict: FixVerdict | None
    layer: str
    hinted: tuple[int, int]
    settings: Settings
    examples: tuple[FixExample, ...] = ()
    stopped: str = ""
    failed: Mapping[tuple[str, int], str] = field(default_factory=dict)
    seconds: Mapping[tuple[str, int], float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return _without_nan(
            {
                "format_version": FORMAT_VERSION,
                "method": self.method,
                "verdict": None if self.verdict is None else {**asdict(self.verdict), "text": str(self.verdict)},
                "layer": self.layer,
                "hinted": list(self.hinted),
                "settings": asdict(self.settings),
                "before": self.before.record(),
                "runs": [
                    {
                        "method": name,
                        "seed": seed,
                        "sees": list(FIX_METHODS[name].sees),
                        "selected_by": FIX_METHODS[name].selected_by,
                        "seconds": self.seconds.get((name, seed)),
                        **found.record(),
                    }
                    for (name, seed), found in self.runs.items()
                ],
                "failed": [
                    {"method": name, "seed": seed, "reason": reason} for (name, seed), reason in self.failed.items()
                ],
                "stopped": self.stopped,
            }
        )

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write the report as one page; the suffix must be ``.html``."""
        # Resolved by name: the view imports what it shows.
        write: Callable[[Fix, Path], Path] = pkgutil.resolve_name("saywhy.view.fix:save_fix")
        return write(self, Path(path))


@validated()
def fix(
    model: "str | nn.Module | Model",
    data: "str | os.PathLike[str] | LabelledImages",
    hints: "str | os.PathLike[str] | Mapping[str, Float[Tensor, 'height width']]",
    *,
    method: str = "hint",
    controls: Sequence[str] = CONTROLS,
    out: "str | os.PathLike[str]" = "out/fix",
    layer: str | None = None,
    layout: Layout | None = None,
    epochs: int = 5,
    batch_size: int = 32,
    rate: float = 3e-4,
    weight: float = 1.0,
    augment: HintedAugmentation = DEFAULT_AUGMENTATION,
    seeds: int = 1,
    accelerator: str = "cpu",
    devices: int = 1,
) -> Fix:
    """Train a classifier so that it relies on what the hints say matters, and compare it with its controls.

    Every method starts from the same weights, takes as many steps with as many images, and its epoch is chosen on "val"
    by labels that it may see; "test" and "shifted" are for measuring only. JTT takes the steps of its first training in
    addition. A run that was stopped goes on.

    Args:
        model: the classifier, with its preprocessing; it stays unchanged.
        data: a folder or table of labelled images with splits, see :func:`saywhy.datasets.load_labelled.read_labelled`.
        hints: what matters in some of the images: masks, boxes or strokes, see
            :func:`saywhy.alignment.hint_files.read_hints`; or maps [height, width] from 0 to 1 by file.
        method: the way of fixing, one of :data:`saywhy.fixing.methods.FIX_METHODS`.
        controls: what it is compared with: controls ("erm", "random-hints", …), baselines ("groupdro", "jtt", …).
        out: a folder for weights, checkpoints and results.
        layer: of the maps; None finds it.
        layout: how to read the layer's output as maps, where this cannot be proved.
        epochs, batch_size, rate: of the training, by AdamW.
        weight: of the added loss, relative: at the start it costs ``weight`` times as much as guessing a class.
        augment: what is done to training images, of every method alike, and to their hints with them: ``"flip"``
            (horizontally), ``"shift"`` (by up to an eighth of each side), ``"flip-shift"``, or ``"none"``. It keeps few
            hints from being learnt by heart. Leave flips out where left and right differ (digits, text).
        seeds: runs of every method. With one the intervals are over images only, with several over the runs.
        accelerator, devices: to compute on, by Lightning Fabric.

    Returns:
        A :class:`Fix`. A run whose loss becomes NaN is left out, with its reason; the others go on. Ctrl-C ends
        training and returns what there is; the same call goes on.

    Raises:
        SaywhyError: the data, hints or model cannot be used; the message says what to do.
    """
    judged = fix_method(method)
    others = [fix_method(name) for name in dict.fromkeys(controls) if name != method]
    seeds = validate("seeds", seeds, PositiveInt)
    settings = Settings(
        validate("epochs", epochs, PositiveInt),
        validate("batch_size", batch_size, PositiveInt),
        validate("rate", rate, PositiveFloat),
        validate("weight", weight, NonNegativeFloat),
        augment=validate("augment", augment, HintedAugmentation),
    )
    given = model if isinstance(model, Model) else load(model)
    # All but training runs on the CPU in float32, whatever the network's device and precision are.
    loaded = replace(given, module=copy.deepcopy(given.module).cpu().float())
    images = data if isinstance(data, LabelledImages) else read_labelled(data)
    known = read_hints(hints, images) if isinstance(hints, str | os.PathLike) else hints
    _check_splits(images)
    inputs = ImageInputs(loaded, images, known)
    first = torch.tensor(images.indices("train")[:1])
    check_outputs(images, predictions(loaded, loaded.module, inputs, first).shape[1])
    watched, name = _layer(loaded, inputs, layer, layout)
    trainer = Trainer(loaded, inputs, watched, settings, Devices(accelerator, devices))
    for each in (judged, *others):
        trainer.check(each)
    folder = Path(out)
    before = evaluate(loaded, loaded.module, inputs, watched)
    finished = run_all(trainer, [judged, *others], seeds, folder)
    return _collected(loaded, judged, before, finished, trainer, name, folder)


def _check_splits(images: LabelledImages) -> None:
    missing = [split for split in ("train", "val") if not images.indices(split)]
    if missing:
        raise InputError(
            f"{images.name} has no images of the split {' and '.join(missing)}. Training needs 'train', and choosing "
            "an epoch 'val'; 'test' and 'shifted' are for measuring."
        )


def _layer(model: Model, inputs: ImageInputs, layer: str | None, layout: Layout | None) -> tuple[Watched, str]:
    """The layer of maps, found or named, with its layout proved on an image with a hint."""
    first = torch.tensor([(*inputs.hinted.tolist(), 0)[0]])
    several = predictions(model, model.module, inputs, first).shape[1] > 1
    target = as_target(int(inputs.labels[first]) if several else 0)
    runner, batch = prepare(model, inputs.images(first), ExplainConfig(target, layer=layer, layout=layout))
    with exclusive(model.module):
        found = LayerChoice(runner.model, runner.config, batch).candidates
    if len(found) > 1:
        raise LayerError(
            f"the classes' evidence passes through {len(found)} branches, {' and '.join(c.name for c in found)}, and "
            "training needs one layer. Name one with layer=, or a layer before them."
        )
    return found[0].watched(), found[0].name


def _collected(
    model: Model,
    judged: FixMethod,
    before: Evaluation,
    finished: FinishedRuns,
    trainer: Trainer,
    layer: str,
    folder: Path,
) -> Fix:
    """The result, and its files."""
    fixed, runs = replace(model, module=copy.deepcopy(model.module)), finished.runs
    first = min((seed for name, seed in runs if name == judged.name), default=None)
    if first is not None:
        load_weights(fixed.module, folder / "runs" / f"{judged.name}-{first}.safetensors")
    whole = complete(runs, judged.name)
    split = deciding_split(before)
    rows = torch.tensor(trainer.inputs.data.indices(split))
    groups = None if trainer.inputs.groups is None else trainer.inputs.groups[rows].tolist()
    found = verdict(judged.name, before, whole, groups, finished.left_out()) if whole else None
    trained = len(trainer.inputs.data.indices("train"))
    hinted = len(trainer.inputs.hinted_of("train"))
    result = Fix(
        fixed, judged.name, before, runs, found, layer, (hinted, trained), trainer.settings,
        examples(model, fixed, trainer), finished.stopped, finished.failed, finished.seconds,
    )  # fmt: skip
    write_text(folder / "fix.json", json.dumps(result.record(), indent=1, allow_nan=False))
    if first is not None:
        save_weights(folder / "fixed.safetensors", distinct(fixed.module.state_dict()), {"method": judged.name})
    return result


def _without_nan(record: Any) -> Any:
    """Plain data with None for numbers that are not finite, which JSON lacks."""
    if isinstance(record, dict):
        return {key: _without_nan(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [_without_nan(value) for value in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record
