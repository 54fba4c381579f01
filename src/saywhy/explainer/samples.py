"""What belongs to a sample: proved by changing the other samples, because sizes alone cannot tell.

An argument belongs to the samples (a question, a mask) if the output for one sample stays the same when the rows of all
others are replaced by its own. If it changes, the argument belongs to all samples (the prompts of CLIP); then the
output must stay the same when only the other images are replaced. Where neither holds, nothing is computed.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.first_layer import remembered
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError, TargetError
from saywhy.explainer.batch_result import BatchResult
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.outputs import model_output
from saywhy.explainer.runner import Runner
from saywhy.models import Model
from saywhy.models.arrange import argument_at, with_size_guess
from saywhy.models.inputs import Batch, translated
from saywhy.output import shown_score

MOST = 4
"""The largest number of arguments whose combinations are tried; of more, one at most is shared."""


def with_samples(model: Model, config: ExplainConfig, batch: Batch) -> Batch:
    """The batch with the knowledge of which arguments belong to the samples; the samples are proved to be independent.

    Raises:
        InputError: the output for a sample depends on the other samples, or no division of the arguments into samples
            gives the same output for a sample of its own.
    """
    inputs = batch.inputs
    tensors = list(tree.tensors(inputs))
    if not isinstance(inputs, tree.ModelInputs):
        image = tree.image_tensor(inputs)
        position = next(i for i, t in enumerate(tensors) if t is image)
        inputs = with_size_guess(tree.ModelInputs(inputs, position))
    if model.axes.shared is not None:
        return replace(batch, inputs=_declared(inputs, model.axes.shared))
    if len(tensors) == 1:
        return batch
    if tree.one_at_a_time(inputs):
        shared = frozenset(range(len(tensors))) - {inputs.image}
        return replace(batch, inputs=replace(inputs, shared=shared))
    shapes = tuple((tuple(t.shape), t.dtype) for t in tensors)
    names = tuple(inputs.value) if isinstance(inputs.value, dict) else len(tensors)
    key = ("samples", shapes, names, inputs.image, inputs.axes, config.output)

    def find() -> tree.ModelInputs:
        with translated(model, batch):
            found = _Prover(model, config, inputs).find()
        return replace(found, value=None)  # what is stored must hold no input

    found = remembered(model.module, key, find)
    classes = batch.classes if found.shared else ()
    return replace(batch, inputs=replace(inputs, shared=found.shared, single=found.single), classes=classes)


def run_independent(runner: Runner, batch: Batch, size: int | None) -> list[BatchResult]:
    """Run a batch of one argument, and check once for a network that its samples are independent.

    The last sample runs by itself once more, which costs less than a check before the run.

    Raises:
        InputError: the output for a sample depends on the other samples, or there is one output for all of them.
    """
    model, config, inputs = runner.model, runner.config, batch.inputs
    if batch.size == 1 or config.create_graph or len(list(tree.tensors(inputs))) > 1 or tree.one_at_a_time(inputs):
        return runner.run_all(batch, size)
    prover = _Prover(model, config, inputs if isinstance(inputs, tree.ModelInputs) else tree.ModelInputs(inputs))
    try:
        results = runner.run_all(batch, size)
    except TargetError:
        prover.check_independence()
        raise
    together = results[0].target_scores.scores
    if len(together) == 1:  # every sample ran by itself
        return results

    def check() -> bool:
        last = slice(len(together) - 1, len(together))
        config = replace(runner.config.of_samples(last), precision="exact")
        with translated(model, batch):
            output = replace(runner, config=config).predict(batch.of_samples(last))
        score = shown_score(output.scale, config.score, config.shown_score)
        alone = config.target.evaluate(replace(output, score=score)).scores[0].detach()
        if not prover.close(alone.float(), together[-1].detach().float()):
            prover.check_independence()
        return True

    remembered(model.module, ("independent", tuple(batch.space), config.output), check)
    return results


def _declared(inputs: tree.ModelInputs, shared: Any) -> tree.ModelInputs:
    """The inputs as declared: these arguments are shared, of all others the first axis is the batch."""
    whole = {id(t) for name in shared for t in tree.tensors(argument_at(inputs.value, name))}
    size = tree.batch_size(inputs)
    found = set()
    for position, t in enumerate(tree.tensors(inputs)):
        if id(t) in whole and position != inputs.image:
            found.add(position)
        elif not t.ndim or len(t) != size:
            raise InputError(
                f"an argument {list(t.shape)} has not one row for each of the {size} samples, and is not declared as "
                "shared. Add its name: axes=saywhy.Input(..., shared=[...])."
            )
    return replace(inputs, shared=frozenset(found))


class _Prover:
    """Runs a network on samples of a batch, to find out which arguments belong to them."""

    def __init__(self, model: Model, config: ExplainConfig, inputs: tree.ModelInputs) -> None:
        self.model, self.config, self.inputs = model, config, inputs
        self.size = tree.batch_size(inputs)
        self.tensors = list(tree.tensors(inputs))

    def find(self) -> tree.ModelInputs:
        """The inputs with what is shared.

        Raises:
            InputError: no division of the arguments into samples is proved.
        """
        last = self.size - 1
        expected = self._row(self.inputs, self.size, last)
        if expected is None:  # the output has no row for each sample
            return replace(self.inputs, single=True) if self.size == 1 else self.inputs
        # A batch of one is doubled; of a larger one all samples become the last.
        index = torch.full((max(2, self.size),), last)
        for shared in self._divisions():
            found = replace(self.inputs, shared=shared)
            if not self._same(found, index, last if self.size > 1 else 1, expected):
                continue
            if self.size == 1 or not shared or self._same(found, torch.tensor([last]), 0, expected):
                return found
        if self.size == 1:
            return replace(self.inputs, single=True)
        shapes = ", ".join(str(list(t.shape)) for t in self.tensors)
        raise InputError(
            f"it cannot be told which arguments ({shapes}) belong to the {self.size} samples and which to all of them: "
            "the output for a sample of its own differs from that in the batch. Explain one sample at a time, or say "
            "which arguments all samples share: axes=saywhy.Input(shared=['name']); shared=[] is none."
        )

    def _divisions(self) -> Iterator[frozenset[int]]:
        """Sets of shared arguments to be tried: those of another length always, of the others none first."""
        image = self.inputs.image
        others = [i for i, t in enumerate(self.tensors) if i != image and t is not self.tensors[image]]
        free = [i for i in others if self.tensors[i].ndim and len(self.tensors[i]) == self.size]
        always = frozenset(others) - frozenset(free)
        for count in range(len(free) + 1 if len(free) <= MOST else 2):
            for some in combinations(free, count):
                yield always | frozenset(some)

    def check_independence(self) -> None:
        """Check that the output for a sample does not depend on the other samples.

        Raises:
            InputError: it does, or the network gives one output for all samples.
        """
        first, last = 0, self.size - 1
        pair, alone = torch.tensor([first, last]), torch.tensor([last])
        together = self._row(tree.select(self.inputs, pair), 2, 1)
        if together is None:
            self._refuse_bag(tree.select(self.inputs, pair))
            return
        if self._same(self.inputs, alone, 0, together):
            return
        # Noise in the network differs between batches of one and of two; between two batches of two it does not.
        if self._same(self.inputs, torch.tensor([last, last]), 1, together):
            return
        example = {3: "t b c", 4: "c b h w", 5: "t b c h w"}.get(self.tensors[self.inputs.image].ndim, "t b c")
        raise InputError(
            f"{self.model.name} mixes the samples of a batch: its output for one sample changes with the others. A map "
            "of one sample would show a part of the others' evidence. Explain one sample at a time; if the first axis "
            f"is not the batch, name the axes, for example axes='{example}'."
        )

    def _refuse_bag(self, inputs: tree.ModelInputs) -> None:
        """Raise an error if a network gives one output for two rows; other outputs are not understood here."""
        raw = self._run(inputs)
        rows = {len(t) for t in tree.tensors(raw) if t.is_floating_point() and t.ndim > 1}
        image = self.tensors[0] if self.inputs.axes is None else self.inputs.axes.to_network(self.tensors[0])
        other = next((i for i in range(1, image.ndim) if rows == {image.shape[i]} - {1, 2}), None)
        if other is not None and self.model.axes.axes is None:
            names = ["t", "c", "h", "w", "d"][: image.ndim]
            names = [*names[:other], "b", *names[other:]][: image.ndim]
            raise InputError(
                f"{self.model.name} gives an output for each of the {image.shape[other]} rows of axis {other}, not for "
                f"the {self.size} of axis 0. Say which axis is the batch, for example axes='{' '.join(names)}'."
            )
        if rows == {1}:
            axes = inputs.axes.names if inputs.axes is not None else ("b", "c", "h", "w")[: self.tensors[0].ndim]
            example = " ".join("tile" if name == "b" else name for name in axes)
            raise InputError(
                f"{self.model.name} gives one output for {self.size} rows, so the rows are not samples. If they are "
                f"the tiles of one bag, say so: axes='{example}'; the maps are then [1, target, tile, h, w]."
            )

    def _run(self, inputs: Any) -> Any:
        inputs = tree.escape_inference(inputs)
        with torch.inference_mode(False), torch.no_grad(), preserve_state(self.model.module, seed=self.config.seed):
            return tree.call(self.model.module, inputs)

    def _row(self, inputs: Any, samples: int, row: int) -> Tensor | None:
        """The class scores of one sample, or all numbers of its rows in the output; None without such rows."""
        raw = self._run(inputs)
        logits = model_output(self.model, self.config, samples, raw).logits
        if logits.shape[1]:
            return logits[row].float()
        rows = [t for t in tree.tensors(raw) if t.is_floating_point() and t.ndim and len(t) == samples]
        return torch.cat([t[row].float().flatten() for t in rows]) if rows else None

    def _same(self, inputs: tree.ModelInputs, index: Tensor, row: int, expected: Tensor) -> bool:
        """Whether a row of the output for these samples is the expected one, to within rounding."""
        try:
            found = self._row(tree.select(inputs, index), len(index), row)
        except tree.CallFailed:
            return False
        return found is not None and found.shape == expected.shape and self.close(found, expected)

    def close(self, found: Tensor, expected: Tensor) -> bool:
        """Whether numbers are equal to within the rounding of the network."""
        dtype = next((t.dtype for t in self.tensors if t.is_floating_point()), torch.float32)
        rounding = max(torch.finfo(dtype).eps, torch.finfo(self.model.dtype).eps) ** 0.5
        off = (found - expected).nan_to_num(0.0).abs()
        return not off.numel() or float(off.max()) <= rounding * max(float(expected.nan_to_num(0.0).abs().max()), 1e-30)
