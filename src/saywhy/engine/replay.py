"""Run a network again from a layer on, with other activations: what perturbation methods need.

To try n altered activations of one sample, the stem runs once, on that sample alone, and the hook returns all n: the
rest of the network runs on a batch of n. Where a path goes round the layer and the batch sizes disagree, the whole
network runs on n copies instead; the answer is the same, only slower.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.capture import Watched
from saywhy.engine.memory import out_of_memory
from saywhy.engine.prefix_cache import PrefixCache, PrefixDiverged, can_cache_prefix
from saywhy.engine.preserve import preserve_state
from saywhy.errors import LayerError
from saywhy.shapes import FeatureMaps, Scores


class Replay:
    """The scores that a network gives when a layer gives something else.

    Args:
        model: any module; borrowed.
        inputs: of one sample.
        layer: what is replaced.
        score: maps the model's output to scores [batch, target].

    >>> from saywhy.engine.layout import Layout
    >>> net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(4, 1, bias=False))
    >>> _ = nn.init.ones_(net[2].weight)
    >>> layer = Watched("0", net[0], Layout("channels-first", (2, 2)))
    >>> replay = Replay(net, torch.ones(1, 1, 2, 2), layer, lambda out: out)
    >>> replay.scores(torch.tensor([2.0, 3.0])[:, None, None, None] * replay.activations)
    tensor([[ 8.],
            [12.]])
    """

    def __init__(self, model: nn.Module, inputs: Any, layer: Watched, score: Callable[[Any], Tensor]) -> None:
        self._model, self._layer, self._score = model, layer, score
        if layer.module is None:
            raise LayerError("the image itself cannot be replayed from. Choose a layer.")
        self._module = layer.module
        self._inputs = tree.escape_inference(inputs)
        self.whole_network = False
        """Whether a path round the layer makes the whole network run for every alteration."""
        self._original = torch.empty(0)
        self._stem = PrefixCache() if can_cache_prefix(model, self._inputs) else None
        self._proved = False
        self._forward(self._inputs, self._keep, self._stem)
        self.activations: FeatureMaps = layer.layout.to_maps(self._original)
        """What the layer gives for the sample, [1, channel, *space]."""

    def _keep(self, tensor: Tensor) -> Tensor:
        self._original = tensor
        return tensor.clone()  # an operation in place behind the layer would overwrite what we keep

    def scores(self, altered: FeatureMaps, batch_size: int = 64, *, overwrite: bool = False) -> Scores:
        """Scores [n, target] for n altered activations.

        Args:
            altered: [n, channel, *space].
            batch_size: how many are run at once; it changes only the speed.
            overwrite: operations in place behind the layer may write into ``altered``, which is not needed any more.
        """
        return torch.cat([self._some(some, overwrite) for some in altered.split(batch_size)])

    def _some(self, altered: FeatureMaps, overwrite: bool) -> Scores:
        count = len(altered)
        altered = altered.to(self._original.dtype)
        output = self._layer.layout.put_maps(self._original, altered)
        if not self.whole_network:
            handed = output if overwrite and self._proved else output.clone()
            try:
                scores = self._from_layer(handed, output)
            except tree.CallFailed as failed:
                if out_of_memory(failed):
                    raise
                scores = None
            if scores is not None and len(scores) == count:
                self._proved = self._proved or count > 1
                return scores
            self.whole_network = True
        repeated = tree.select(self._inputs, torch.zeros(count, dtype=torch.long, device=altered.device))
        return self._forward(repeated, lambda _: output.clone())

    def _from_layer(self, handed: Tensor, output: Tensor) -> Scores:
        """The rest of the network; the stem is computed again where it does something else than the first time."""
        if self._stem is not None and not self._stem.intact():
            self._stem = None
        try:
            return self._forward(self._inputs, lambda _: handed, self._stem)
        except PrefixDiverged:
            self._stem = None
        return self._forward(self._inputs, lambda _: output)

    def _forward(self, inputs: Any, replace: Callable[[Tensor], Tensor], stem: PrefixCache | None = None) -> Tensor:
        calls = 0
        layer = self._layer

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            tensor = tree.feature_tensor(output)
            if tensor is None or (layer.call >= 0 and layer.call != calls - 1):
                return None
            if stem is not None:
                stem.reached()
            return tree.replace_tensor(output, tensor, replace(tensor))

        with torch.inference_mode(False), torch.no_grad(), preserve_state(self._model):
            handle = self._module.register_forward_hook(hook)
            try:
                with stem or nullcontext():
                    answer = tree.call(self._model, inputs)
                scores = self._score(answer)
            finally:
                handle.remove()
        if not calls:
            raise LayerError(f"layer '{layer.name}' did not run on this input, so there is nothing to replay.")
        return scores
