"""The runs of a comparison: trained, measured and stored, or read if they were stored before."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from saywhy.errors import WeightsError
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


def run_all(
    trainer: Trainer, methods: Sequence[FixMethod], seeds: int, folder: Path
) -> tuple[dict[tuple[str, int], Evaluation], str]:
    """The evaluations of all runs, trained unless their weights are stored; and why some are missing."""
    runs: dict[tuple[str, int], Evaluation] = {}
    pairs = [(method, seed) for seed in range(seeds) for method in methods]
    for method, seed in pairs:
        try:
            runs[method.name, seed] = _run(trainer, method, seed, folder / "runs")
        except KeyboardInterrupt:
            done = len(runs)
            return runs, f"Stopped by Ctrl-C during '{method.name}', seed {seed}: {done} of {len(pairs)} runs are done."
    return runs, ""


def _run(trainer: Trainer, method: FixMethod, seed: int, folder: Path) -> Evaluation:
    """One run: from the disk, or trained and measured."""
    file = folder / f"{method.name}-{seed}.safetensors"
    identity = trainer.identity(method, seed)
    stored = _stored_evaluation(file, identity)
    if stored is not None:
        return stored
    checkpoint = file.with_suffix(".checkpoint")
    with counted(f"{method.name}, seed {seed}", trainer.steps(method)) as advance:
        weights = trainer.run(method, seed, checkpoint, lambda step, loss: advance(1, f"loss {loss:.4f}"))
    network = copy.deepcopy(trainer.model.module)
    network.load_state_dict(weights)
    found = evaluate(trainer.model, network, trainer.inputs, layer_in(network, trainer.layer, trainer.model))
    save_weights(file, distinct(weights), {"identity": identity, "evaluation": json.dumps(found.record())})
    for stale in folder.glob(f"{method.name}-{seed}*.checkpoint"):
        remove_checkpoint(stale)
    return found


def _stored_evaluation(file: Path, identity: str) -> Evaluation | None:
    """The evaluation of a finished run, if it is of the same data, model and settings."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"'{file}' is damaged ({error}). Delete it to train again.") from error
    if metadata.get("identity") != identity:
        raise WeightsError(
            f"'{file}' belongs to a fix with other data, hints, weights or settings. Use another folder with out=, or "
            "delete it."
        )
    return Evaluation.of(json.loads(metadata["evaluation"]))


def distinct(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without shared memory, as safetensors needs them."""
    return {name: tensor.clone().contiguous() for name, tensor in weights.items()}
