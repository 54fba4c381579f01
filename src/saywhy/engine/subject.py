"""What methods that run the network themselves work on: a network, a batch, scores and one layer.

Path methods feed it points of a path, perturbation methods altered pictures. Whatever they feed it belongs to a sample
of the batch, whose other inputs (a question, a mask) and whose target it keeps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.borrow import borrowed
from saywhy.engine.capture import Capture, Watched, capture
from saywhy.engine.layout import Layout
from saywhy.engine.replay import Replay
from saywhy.shapes import FeatureMaps, Scores

AT_ONCE = 16
"""Altered pictures that are run together unless the user says how many."""


@dataclass(frozen=True)
class Subject:
    """A network that is asked the same question of other pictures.

    Attributes:
        model: borrowed.
        inputs: of the batch, as the network is called.
        layer: where the map is made; the picture itself for methods of the input.
        score: from the network's output for n altered samples, and int [n] which samples they are, to scores
            [n, target].
        answers: the same to class scores [n, class], before any target.
        black: what a black pixel is after preprocessing, one value a channel; None where it is not known.
        seed: for whatever is random.
        batch_size: altered pictures run together; None is :data:`AT_ONCE`. It never changes the result.
    """

    model: nn.Module
    inputs: Any
    layer: Watched
    score: Callable[[Any, Tensor], Scores]
    answers: Callable[[Any, Tensor], Tensor]
    black: Tensor | None = None
    seed: int = 0
    batch_size: int | None = None

    @staticmethod
    def of(model: nn.Module, inputs: Any, score: Callable[[Any], Tensor], layer: Watched | None = None) -> "Subject":
        """A network with one score a sample, without the rest of saywhy around it."""

        def scores(output: Any, _samples: Tensor) -> Tensor:
            return score(output).unsqueeze(1)

        return Subject(model, inputs, layer or picture_watched(inputs), scores, lambda output, _: output)

    @property
    def picture(self) -> FeatureMaps:
        """The pictures as the network gets them, [batch, channel, *space], free of graphs."""
        return tree.picture_tensor(self.inputs).detach()

    @property
    def size(self) -> int:
        """The number of samples."""
        return tree.batch_size(self.inputs)

    def at(self, layer: Watched) -> "Subject":
        """The same question at another layer."""
        return replace(self, layer=layer)

    def at_picture(self) -> "Subject":
        """The same question at the picture itself."""
        return self.at(picture_watched(self.inputs))

    def chance(self) -> torch.Generator:
        """A source of random numbers that gives the same ones at every call."""
        return torch.Generator().manual_seed(self.seed)

    def fed(self, pictures: FeatureMaps, samples: Tensor) -> Any:
        """What the network is called with for altered pictures [n, channel, *space] of the samples int [n]."""
        original = tree.picture_tensor(self.inputs)
        size = len(original)

        def altered(t: Tensor) -> Tensor:
            if t is original:
                return pictures.to(t)
            return t[samples.to(t.device)] if t.ndim and t.shape[0] == size else t

        return tree.map_tensors(self.inputs, altered)

    def parts(self, count: int) -> Iterator[slice]:
        """Slices of ``count`` things, as many at once as may be."""
        step = self.batch_size or AT_ONCE
        return (slice(start, min(start + step, count)) for start in range(0, count, step))

    def watch(self, pictures: FeatureMaps, samples: Tensor) -> Capture:
        """Scores of altered pictures, activations of the layer and their gradients; all at once."""
        inputs = tree.escape_inference(self.fed(pictures, samples))
        return capture(self.model, inputs, [self.layer], lambda out: self.score(out, samples), seed=self.seed)

    def activations(self, sample: int) -> FeatureMaps:
        """What the layer gives for a sample as it is, [1, channel, *space]."""
        return self.picture[sample : sample + 1] if self.layer.module is None else self.replay(sample).activations

    def scores(self, pictures: FeatureMaps, samples: Tensor) -> Scores:
        """Scores [n, target] of altered pictures [n, channel, *space], without gradients."""
        found = [self._answered(self.score, pictures[part], samples[part]) for part in self.parts(len(pictures))]
        return torch.cat(found)

    def class_scores(self, pictures: FeatureMaps, samples: Tensor) -> Tensor:
        """Scores of all classes [n, class] of altered pictures, without gradients."""
        return torch.cat(
            [self._answered(self.answers, pictures[part], samples[part]) for part in self.parts(len(pictures))]
        )

    def differentiable_class_scores(self, pictures: FeatureMaps, samples: Tensor) -> Tensor:
        """Probabilities of all classes [n, class] with a graph to the pictures."""
        with torch.inference_mode(False), torch.enable_grad(), borrowed(self.model, seed=self.seed):
            return self.answers(tree.call(self.model, self.fed(pictures, samples)), samples)

    def _answered(self, read: Callable[[Any, Tensor], Tensor], pictures: FeatureMaps, samples: Tensor) -> Tensor:
        inputs = tree.escape_inference(self.fed(pictures, samples))
        with torch.inference_mode(False), torch.no_grad(), borrowed(self.model, seed=self.seed):
            return read(tree.call(self.model, inputs), samples)

    def replay(self, sample: int) -> Replay:
        """The network from the layer on, for one sample."""
        one = torch.tensor([sample])
        inputs = tree.select(self.inputs, one.to(self.picture.device))
        return Replay(self.model, inputs, self.layer, lambda out: self.score(out, one.expand(_rows(out))))


def _rows(output: Any) -> int:
    """The size of the batch in a network's output."""
    return next(t.shape[0] for t in tree.tensors(output) if t.ndim)


def picture_watched(inputs: Any) -> Watched:
    """The picture among the inputs, watched as if it were a layer."""
    return Watched("input", None, Layout("channels-first", tuple(tree.picture_tensor(inputs).shape[2:])))
