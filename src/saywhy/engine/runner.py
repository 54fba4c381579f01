"""What methods that run the network themselves work on: a network, a batch, scores and one layer.

Path methods feed it points of a path, perturbation methods altered images. Whatever they feed it belongs to a sample
of the batch, whose other inputs (a question, a mask) and whose target it keeps.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.capture import Capture, Watched, capture
from saywhy.engine.layout import Layout
from saywhy.engine.memory import MemoryBudget
from saywhy.engine.preserve import preserve_state
from saywhy.engine.replay import Replay
from saywhy.shapes import FeatureMaps, Scores, at_least_float32

AT_ONCE = 16
"""Altered images that are run together unless the user says how many."""

CACHE_BYTES = 16 * 2**20
"""Altered activations that are replayed together take about this much memory, so that they stay in the cache."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class ModelRunner:
    """A network that is asked the same question of other images.

    Attributes:
        model: borrowed.
        inputs: of the batch, as the network is called.
        layer: where the map is made; the image itself for methods of the input.
        score: from the network's output for n altered samples, and int [n] which samples they are, to scores
            [n, target].
        answers: the same to class scores [n, class], before any target.
        attention: the same to where the network says that it has looked for every target, [n, target, *space].
        black: what a black pixel is after preprocessing, one value a channel; None where it is not known.
        seed: for whatever is random.
        batch_size: altered images run together; None is :data:`AT_ONCE`. It never changes the result.
        room: how many fit into memory; found out when they do not.
    """

    model: nn.Module
    inputs: Any
    layer: Watched
    score: Callable[[Any, Tensor], Scores]
    answers: Callable[[Any, Tensor], Tensor]
    attention: Callable[[Any, Tensor], Tensor]
    black: Tensor | None = None
    seed: int = 0
    batch_size: int | None = None
    room: MemoryBudget = field(default_factory=MemoryBudget, compare=False, repr=False)

    @staticmethod
    def of(
        model: nn.Module, inputs: Any, score: Callable[[Any], Tensor], layer: Watched | None = None
    ) -> "ModelRunner":
        """A network with one score a sample, without the rest of saywhy around it."""

        def scores(output: Any, _samples: Tensor) -> Tensor:
            return score(output).unsqueeze(1)

        def attention(output: Any, _samples: Tensor) -> Tensor:
            seen: Tensor = output.attention
            return seen.mean(1, keepdim=True)

        return ModelRunner(model, inputs, layer or input_layer(inputs), scores, lambda output, _: output, attention)

    @property
    def image(self) -> FeatureMaps:
        """The images as the network gets them, [batch, channel, *space], free of graphs."""
        return tree.image_tensor(self.inputs).detach()

    @property
    def size(self) -> int:
        """The number of samples."""
        return tree.batch_size(self.inputs)

    def at(self, layer: Watched) -> "ModelRunner":
        """The same question at another layer."""
        return replace(self, layer=layer)

    def at_image(self) -> "ModelRunner":
        """The same question at the image itself."""
        return self.at(input_layer(self.inputs))

    def generator(self) -> torch.Generator:
        """A source of random numbers that gives the same ones at every call."""
        return torch.Generator().manual_seed(self.seed)

    def fed(self, images: FeatureMaps, samples: Tensor) -> Any:
        """What the network is called with for altered images [n, channel, *space] of the samples int [n]."""
        original = tree.image_tensor(self.inputs)
        size = len(original)

        def altered(t: Tensor) -> Tensor:
            if t is original:
                return images.to(t)
            return t[samples.to(t.device)] if t.ndim and t.shape[0] == size else t

        return tree.map_tensors(self.inputs, altered)

    def parts(self, count: int, most: int = AT_ONCE) -> Iterator[slice]:
        """Slices of ``count`` things, as many at once as may be; ``most`` unless the user says how many."""
        start = 0
        while start < count:
            stop = min(start + self.room.at_most(self.batch_size or most), count)
            yield slice(start, stop)
            start = stop

    def fitting(self, count: int, run: Callable[[slice], Found], most: int = AT_ONCE) -> Iterator[tuple[slice, Found]]:
        """What ``run`` gives for slices of ``count`` things; where memory runs out, for half as many at once.

        A slice that did not fit is asked for again from the same start, so ``run`` must not care how often it is asked.
        """
        start = 0
        while start < count:
            stop = min(start + self.room.at_most(self.batch_size or most), count)
            fits = False
            with self.room.halved_for(stop - start):
                found = run(slice(start, stop))
                fits = True
            if fits:
                yield slice(start, stop), found
                start = stop

    def watch(
        self,
        images: FeatureMaps,
        samples: Tensor,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Capture:
        """Scores of altered images, activations of the layer and their gradients; all at once, run in a context."""
        inputs = tree.escape_inference(self.fed(images, samples))
        return capture(
            self.model, inputs, [self.layer], lambda out: self.score(out, samples), seed=self.seed, context=context
        )

    def activations(self, sample: int) -> FeatureMaps:
        """What the layer gives for a sample as it is, [1, channel, *space]."""
        return self.image[sample : sample + 1] if self.layer.module is None else self.replay(sample).activations

    def gradients(self, images: FeatureMaps, samples: Tensor) -> Iterator[tuple[FeatureMaps, Tensor, Scores]]:
        """Activations [n, channel, *space], gradients [n, target, channel, *space] and scores [n, target], at least
        float32, of altered images: all at once, or in parts where memory runs out.
        """

        def run(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            captured = self.watch(images[part], samples[part])
            (A,), (G,) = captured.activations.values(), captured.gradients().values()
            return at_least_float32(A), at_least_float32(G), at_least_float32(captured.scores)

        return (found for _, found in self.fitting(len(images), run, most=len(images)))

    def scores(self, images: FeatureMaps, samples: Tensor) -> Scores:
        """Scores [n, target] of altered images [n, channel, *space], without gradients."""
        run = self.fitting(len(images), lambda part: self._scored(images[part], samples[part]))
        return torch.cat([found for _, found in run])

    def altered(self, sample: int, count: int, alter: Callable[[slice], FeatureMaps]) -> Iterator[tuple[slice, Scores]]:
        """Scores [n, target] of a sample for ``count`` alterations of it, made a few at a time.

        Args:
            sample: which one.
            count: how many alterations there are.
            alter: gives the altered images [n, channel, *space] of a slice of them.
        """

        def run(part: slice) -> Scores:
            return self._scored(alter(part), torch.full((part.stop - part.start,), sample))

        return self.fitting(count, run)

    def replayed(
        self, replay: Replay, count: int, alter: Callable[[slice], FeatureMaps]
    ) -> Iterator[tuple[slice, Scores]]:
        """The same for altered activations of the layer; the network runs from there on alone."""
        A = replay.activations
        most = max(AT_ONCE, CACHE_BYTES // max(1, A.numel() * A.element_size()))

        def run(part: slice) -> Scores:
            return replay.scores(alter(part), AT_ONCE if replay.whole_network else most, overwrite=True)

        return self.fitting(count, run, most)

    def differentiable_class_scores(self, images: FeatureMaps, samples: Tensor) -> Tensor:
        """Probabilities of all classes [n, class] with a graph to the images."""
        with torch.inference_mode(False), torch.enable_grad(), preserve_state(self.model, seed=self.seed):
            return self.answers(tree.call(self.model, self.fed(images, samples)), samples)

    def attended(self) -> Tensor:
        """Where the network says that it has looked, [batch, target, *space]."""
        inputs = tree.escape_inference(self.inputs)
        with torch.inference_mode(False), torch.no_grad(), preserve_state(self.model, seed=self.seed):
            return self.attention(tree.call(self.model, inputs), torch.arange(self.size))

    def _scored(self, images: FeatureMaps, samples: Tensor) -> Scores:
        inputs = tree.escape_inference(self.fed(images, samples))
        with torch.inference_mode(False), torch.no_grad(), preserve_state(self.model, seed=self.seed):
            return self.score(tree.call(self.model, inputs), samples)

    def replay(self, sample: int) -> Replay:
        """The network from the layer on, for one sample."""
        one = torch.tensor([sample])
        inputs = tree.select(self.inputs, one.to(self.image.device))
        return Replay(self.model, inputs, self.layer, lambda out: self.score(out, one.expand(_rows(out))))


def _rows(output: Any) -> int:
    """The size of the batch in a network's output."""
    return next(t.shape[0] for t in tree.tensors(output) if t.ndim)


def input_layer(inputs: Any) -> Watched:
    """The image among the inputs, watched as if it were a layer."""
    return Watched("input", None, Layout("channels-first", tuple(tree.image_tensor(inputs).shape[2:])))
