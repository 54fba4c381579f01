"""The model runner: a network, a batch, scores and one layer, for methods that run the network several times.

Path methods run points of a path, perturbation methods altered images. Every altered image belongs to a sample of the
batch and keeps that sample's other inputs (a question, a mask) and its target.
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
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.replay import Replay
from saywhy.shapes import FeatureMaps, Scores, at_least_float32

AT_ONCE = 16
"""The number of altered images that run together by default."""

CACHE_BYTES = 16 * 2**20
"""Altered activations replayed together take about this much memory, so that they stay in the cache."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class ModelRunner:
    """A network that computes the same target scores for altered images.

    Attributes:
        model: the network; its state is preserved.
        inputs: the inputs of the batch, as the network is called.
        layer: the layer of the map; the image itself for methods of the input.
        score: maps the network's output for n altered samples, and their indices int [n], to scores [n, target].
        probabilities: maps the same to class probabilities [n, class], without a target.
        attention: maps the same to the network's own attention for every target, [n, target, *space].
        black: a black pixel after preprocessing, one value a channel; None if it is not known.
        seed: seeds everything that is random.
        batch_size: how many altered images run together; None is :data:`AT_ONCE`. It never changes the result.
        room: how many altered images fit into memory; reduced when memory runs out.
    """

    model: nn.Module
    inputs: Any
    layer: Watched
    score: Callable[[Any, Tensor], Scores]
    probabilities: Callable[[Any, Tensor], Tensor]
    attention: Callable[[Any, Tensor], Tensor]
    black: Tensor | None = None
    seed: int = 0
    batch_size: int | None = None
    room: MemoryBudget = field(default_factory=MemoryBudget, compare=False, repr=False)

    @staticmethod
    def of(
        model: nn.Module, inputs: Any, score: Callable[[Any], Tensor], layer: Watched | None = None
    ) -> "ModelRunner":
        """A runner of a bare network with one score a sample."""

        def scores(output: Any, _samples: Tensor) -> Tensor:
            return score(output).unsqueeze(1)

        def attention(output: Any, _samples: Tensor) -> Tensor:
            maps: Tensor = output.attention
            return maps.mean(1, keepdim=True)

        return ModelRunner(model, inputs, layer or input_layer(inputs), scores, lambda output, _: output, attention)

    @property
    def image(self) -> FeatureMaps:
        """The images as the network gets them, [batch, channel, *space], without a graph."""
        return tree.image_tensor(self.inputs).detach()

    @property
    def size(self) -> int:
        """The number of samples."""
        return tree.batch_size(self.inputs)

    @property
    def unordered(self) -> tuple[int, ...]:
        """The axes of the image, of those in space, whose positions have no neighbours (views, tiles)."""
        axes = self.inputs.axes if isinstance(self.inputs, tree.ModelInputs) else None
        return axes.unordered if axes is not None else ()

    def at(self, layer: Watched) -> "ModelRunner":
        """The same runner at another layer."""
        return replace(self, layer=layer)

    def at_image(self) -> "ModelRunner":
        """The same runner at the image itself."""
        return self.at(input_layer(self.inputs))

    def generator(self) -> torch.Generator:
        """A new generator with the runner's seed: the same random numbers at every call."""
        return torch.Generator().manual_seed(self.seed)

    def forward_inputs(self, images: FeatureMaps, samples: Tensor) -> Any:
        """The network's inputs for altered images [n, channel, *space] of the samples int [n]."""
        return tree.with_images(self.inputs, images, samples)

    def parts(self, count: int, most: int = AT_ONCE) -> Iterator[slice]:
        """Slices of ``count`` items, of at most ``batch_size`` (``most`` by default) and of what fits into memory."""
        start = 0
        while start < count:
            stop = min(start + self.room.at_most(self.batch_size or most), count)
            yield slice(start, stop)
            start = stop

    def run_parts(
        self, count: int, run: Callable[[slice], Found], most: int = AT_ONCE
    ) -> Iterator[tuple[slice, Found]]:
        """The results of ``run`` for slices of ``count`` items; where memory runs out, the slices are halved.

        A slice that did not fit is run again from the same start, so ``run`` must give the same result each time.
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
        """Scores of altered images, activations of the layer and their gradients, in one pass within a context."""
        inputs = tree.escape_inference(self.forward_inputs(images, samples))
        return capture(
            self.model, inputs, [self.layer], lambda out: self.score(out, samples), seed=self.seed, context=context
        )

    def activations(self, sample: int) -> FeatureMaps:
        """The layer's activations for an unaltered sample, [1, channel, *space]."""
        return self.image[sample : sample + 1] if self.layer.module is None else self.replay(sample).activations

    def on_image(self, maps: Tensor) -> Tensor:
        """Maps [batch, target, *grid] of the layer as maps that cover the whole image; 0 where no cell lies."""
        return self.layer.layout.on_image(maps, tuple(self.image.shape[2:]))

    def gradients(self, images: FeatureMaps, samples: Tensor) -> Iterator[tuple[FeatureMaps, Tensor, Scores]]:
        """Activations [n, channel, *space], gradients [n, target, channel, *space] and scores [n, target] of altered
        images, in at least float32: in one pass, or in parts where memory runs out.
        """

        def run(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            captured = self.watch(images[part], samples[part])
            (A,), (G,) = captured.activations.values(), captured.gradients().values()
            return at_least_float32(A), at_least_float32(G), at_least_float32(captured.scores)

        return (found for _, found in self.run_parts(len(images), run, most=len(images)))

    def scores(self, images: FeatureMaps, samples: Tensor) -> Scores:
        """Scores [n, target] of altered images [n, channel, *space], without gradients."""
        run = self.run_parts(len(images), lambda part: self._score_images(images[part], samples[part]))
        return torch.cat([found for _, found in run])

    def perturbed_scores(
        self, sample: int, count: int, alter: Callable[[slice], FeatureMaps]
    ) -> Iterator[tuple[slice, Scores]]:
        """Scores [n, target] of ``count`` alterations of one sample, which are made a few at a time.

        Args:
            sample: the index of the sample.
            count: the number of alterations.
            alter: gives the altered images [n, channel, *space] of a slice of the alterations.
        """

        def run(part: slice) -> Scores:
            return self._score_images(alter(part), torch.full((part.stop - part.start,), sample))

        return self.run_parts(count, run)

    def replayed_scores(
        self, replay: Replay, count: int, alter: Callable[[slice], FeatureMaps]
    ) -> Iterator[tuple[slice, Scores]]:
        """Scores [n, target] of ``count`` altered activations of the layer; only the rest of the network runs."""
        A = replay.activations
        most = max(AT_ONCE, CACHE_BYTES // max(1, A.numel() * A.element_size()))

        def run(part: slice) -> Scores:
            return replay.scores(alter(part), AT_ONCE if replay.whole_network else most, overwrite=True)

        return self.run_parts(count, run, most)

    def differentiable_class_scores(self, images: FeatureMaps, samples: Tensor) -> Tensor:
        """Probabilities of all classes [n, class], with a graph to the images."""
        with exclusive_run(self.model, seed=self.seed), torch.inference_mode(False), torch.enable_grad():
            return self.probabilities(tree.call(self.model, self.forward_inputs(images, samples)), samples)

    def model_attention(self) -> Tensor:
        """The network's own attention maps, [batch, target, *space]."""
        inputs = tree.escape_inference(self.inputs)
        with exclusive_run(self.model, seed=self.seed), torch.inference_mode(False), torch.no_grad():
            return self.attention(tree.call(self.model, inputs), torch.arange(self.size))

    def _score_images(self, images: FeatureMaps, samples: Tensor) -> Scores:
        inputs = tree.escape_inference(self.forward_inputs(images, samples))
        with exclusive_run(self.model, seed=self.seed), torch.inference_mode(False), torch.no_grad():
            return self.score(tree.call(self.model, inputs), samples)

    def replay(self, sample: int) -> Replay:
        """A replay of the network from the layer on, for one sample."""
        one = torch.tensor([sample])
        inputs = tree.select(self.inputs, one.to(self.image.device))
        return Replay(self.model, inputs, self.layer, lambda out: self.score(out, one.expand(_rows(out))))


def _rows(output: Any) -> int:
    """The batch size of a network's output."""
    return next(t.shape[0] for t in tree.tensors(output) if t.ndim)


def input_layer(inputs: Any) -> Watched:
    """The image among the inputs, as a layer to watch."""
    return Watched("input", None, Layout("channels-first", tuple(tree.image_tensor(inputs).shape[2:])))
