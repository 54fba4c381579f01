"""Running a network again from a layer on, with altered activations, for perturbation methods.

For n altered activations of one sample, the prefix of the network runs once on that sample, and the hook returns all n:
the rest of the network runs on a batch of n. If a path bypasses the layer, the batch sizes disagree, and the whole
network runs on n copies instead; the result is the same, only slower.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.activations import hooked
from saywhy.engine.capture import Watched
from saywhy.engine.memory import out_of_memory
from saywhy.engine.prefix_cache import PrefixCache, PrefixDiverged, can_cache_prefix
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import LayerError
from saywhy.shapes import FeatureMaps, Scores


class Replay:
    """The scores of a network when the activations of a layer are altered.

    Args:
        model: any module; its state is preserved.
        inputs: the inputs of one sample.
        layer: the layer whose output is replaced.
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
            raise LayerError("expected a layer to replay from, got the image itself. Choose a layer of the network.")
        self._module = layer.module
        self._inputs = tree.escape_inference(inputs)
        self.whole_network = False
        """Whether the whole network runs for every alteration, because a path bypasses the layer."""
        self._original = torch.empty(0)
        self._prefix = PrefixCache() if can_cache_prefix(model, self._inputs) else None
        self._clone_needed = True
        self._forward(self._inputs, self._keep, self._prefix)
        self.activations: FeatureMaps = layer.layout.to_maps(self._original)
        """The layer's activations for the sample, [1, channel, *space]."""

    def _keep(self, tensor: Tensor) -> Tensor:
        self._original = tensor
        return tensor.clone()  # an in-place operation after the layer would overwrite it

    def scores(self, altered: FeatureMaps, batch_size: int = 64, *, overwrite: bool = False) -> Scores:
        """Scores [n, target] for n altered activations.

        Args:
            altered: [n, channel, *space].
            batch_size: how many run at once; it changes only the speed.
            overwrite: in-place operations after the layer may write into ``altered``.
        """
        return torch.cat([self._scores_of(part, overwrite) for part in altered.split(batch_size)])

    def _scores_of(self, altered: FeatureMaps, overwrite: bool) -> Scores:
        count = len(altered)
        altered = altered.to(self._original.dtype)
        output = self._layer.layout.put_maps(self._original, altered)
        if not self.whole_network:
            handed = output if overwrite and not self._clone_needed else output.clone()
            try:
                scores = self._from_layer(handed, output)
            except tree.CallFailed as failed:
                if out_of_memory(failed):
                    raise
                scores = None
            if scores is not None and len(scores) == count:
                self._clone_needed = self._clone_needed and count <= 1
                return scores
            self.whole_network = True
        repeated = tree.select(self._inputs, torch.zeros(count, dtype=torch.long, device=altered.device))
        return self._forward(repeated, lambda _: output.clone())

    def _from_layer(self, handed: Tensor, output: Tensor) -> Scores:
        """Scores from the layer on; the prefix is computed again if its operations differ from those recorded."""
        if self._prefix is not None and not self._prefix.intact():
            self._prefix = None
        try:
            return self._forward(self._inputs, lambda _: handed, self._prefix)
        except PrefixDiverged:
            self._prefix = None
        return self._forward(self._inputs, lambda _: output)

    def _forward(self, inputs: Any, replace: Callable[[Tensor], Tensor], prefix: PrefixCache | None = None) -> Tensor:
        ran = False
        layer = self._layer

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            nonlocal ran
            ran = True
            tensor = tree.feature_tensor(output)
            if tensor is None:
                return None
            if prefix is not None:
                prefix.reached()
            return tree.replace_tensor(output, tensor, replace(tensor))

        with (
            exclusive_run(self._model),
            torch.inference_mode(False),
            torch.no_grad(),
            hooked(self._module, layer.function, layer.call, hook),
        ):
            with prefix or nullcontext():
                result = tree.call(self._model, inputs)
            scores = self._score(result)
        if not ran:
            raise LayerError(f"layer '{layer.name}' did not run on this input, so there is nothing to replay.")
        return scores
