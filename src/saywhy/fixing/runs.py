"""The runs of a comparison: trained, measured and stored, or read if they were stored before."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from safetensors import SafetensorError, safe_open
from torch import Tensor

from saywhy.errors import TrainingError, WeightsError
from saywhy.fixing.evaluate import Evaluation, evaluate
from saywhy.fixing.methods import FixMethod
from saywhy.fixing.train import Trainer, layer_in
from saywhy.fixing.verdict import Runs
from saywhy.progress import counted
from saywhy.training.checkpoint import remove_checkpoint, save_weights


def complete(runs: Runs, method: str) -> Runs:
    """The runs that can be compared: the seeds with ``method``, and the methods that have all of them."""
    seeds = {seed for name, seed in runs if name == method}
    whole = {name for name, _ in runs if all((name, seed) in runs for seed in seeds)}
    return {pair: found for pair, found in runs.items() if pair[0] in whole and pair[1] in seeds}


@dataclass
class FinishedRuns:
    """What became of the runs.

    Attributes:
        runs: the evaluations of those that are finished, by method and seed.
        seconds: how long each was trained; after an interruption, since then.
        failed: why a run ended without weights: its loss was NaN or infinite.
        stopped: why runs are missing; "" if none is.
    """

    runs: dict[tuple[str, int], Evaluation] = field(default_factory=dict)
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    stopped: str = ""

    def left_out(self) -> dict[str, str]:
        """Why methods are not compared, or not for all seeds: the first reason of each.

        >>> FinishedRuns(failed={("jtt", 0): "the loss is nan.", ("jtt", 2): "the loss is inf."}).left_out()
        {'jtt': 'seed 0 and 1 more: the loss is nan'}
        """
        found: dict[str, str] = {}
        for name in dict.fromkeys(name for name, _ in self.failed):
            reasons = [(seed, reason) for (other, seed), reason in self.failed.items() if other == name]
            more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
            found[name] = f"seed {reasons[0][0]}{more}: {reasons[0][1].rstrip('.')}"
        return found


def run_all(trainer: Trainer, methods: Sequence[FixMethod], seeds: int, folder: Path) -> FinishedRuns:
    """Train and measure all runs, but those that are stored.

    A run whose loss is not finite has failed; the others go on. It is tried again by the next call.
    """
    found = FinishedRuns()
    pairs = [(method, seed) for seed in range(seeds) for method in methods]
    for method, seed in pairs:
        pair = method.name, seed
        try:
            found.runs[pair], found.seconds[pair] = _run(trainer, method, seed, folder / "runs")
        except TrainingError as error:
            found.failed[pair] = str(error)
        except KeyboardInterrupt:
            found.stopped = (
                f"Stopped by Ctrl-C during '{method.name}', seed {seed}: {len(found.runs)} of {len(pairs)} runs are "
                "done."
            )
            break
    return found


def _run(trainer: Trainer, method: FixMethod, seed: int, folder: Path) -> tuple[Evaluation, float]:
    """One run, and the seconds of its training: from the disk, or trained and measured."""
    file = folder / f"{method.name}-{seed}.safetensors"
    identity = trainer.identity(method, seed)
    stored = _stored_run(file, identity)
    if stored is not None:
        return stored
    checkpoint, begin = file.with_suffix(".checkpoint"), perf_counter()
    with counted(f"{method.name}, seed {seed}", trainer.steps(method)) as advance:
        weights = trainer.run(method, seed, checkpoint, lambda step, loss: advance(1, f"loss {loss:.4f}"))
    seconds = perf_counter() - begin
    network = copy.deepcopy(trainer.model.module)
    network.load_state_dict(weights)
    found = evaluate(trainer.model, network, trainer.inputs, layer_in(network, trainer.layer, trainer.model))
    kept = {"identity": identity, "evaluation": json.dumps(found.record()), "seconds": f"{seconds:.3f}"}
    save_weights(file, distinct(weights), kept)
    for stale in folder.glob(f"{method.name}-{seed}*.checkpoint"):
        remove_checkpoint(stale)
    return found, float(kept["seconds"])


def _stored_run(file: Path, identity: str) -> tuple[Evaluation, float] | None:
    """The evaluation of a finished run and its seconds, if it is of the same data, model and settings."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"'{file}' is damaged ({error}). Delete it to train again.") from error
    if metadata.get("identity") != identity:
        raise WeightsError(
            f"'{file}' belongs to a fix with other images, hints, preprocessing, weights or settings. Use another "
            "folder with out=, or delete it."
        )
    return Evaluation.of(json.loads(metadata["evaluation"])), float(metadata["seconds"])


def distinct(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without shared memory, as safetensors needs them."""
    return {name: tensor.clone().contiguous() for name, tensor in weights.items()}
