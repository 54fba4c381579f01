"""One pass of training through a network: class scores, and maps of the right class with their graph."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from saywhy.alignment.importance import HumanMaps, Importance, cell_importance, network_importance
from saywhy.engine import tree
from saywhy.engine.capture import Capture, Watched, capture
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import WeightsError
from saywhy.models import Model
from saywhy.models.outputs import class_scores
from saywhy.output import ModelOutput
from saywhy.shapes import Images, Maps, at_least_float32

MOST_CELLS = 14
"""Cells along each side of a map above which importances are means of several cells: pairs grow with the fourth power
of the side."""


@dataclass
class TrainingPass:
    """A batch after its forward pass.

    Attributes:
        images: the network's input; it requires a gradient if that was asked for.
        output: the class scores, with their graph.
        labels: [batch] the right classes.
        hints: [batch, row, column] in pixels of the input, NaN without a hint.
        captured: the capture and the layer whose maps are asked for; None for none.
        step, seed: of the training run, for random hints.
    """

    images: Images
    output: ModelOutput
    labels: Int[Tensor, " batch"]
    hints: HumanMaps
    captured: tuple[Capture, Watched] | None
    step: int = 0
    seed: int = 0

    @cached_property
    def task_losses(self) -> Float[Tensor, " batch"]:
        """Cross-entropy of every image; binary cross-entropy, summed over classes, for independent classes."""
        return task_losses(self.output, self.labels)

    @cached_property
    def hinted(self) -> Tensor:
        """[batch] which images have a hint."""
        return self.hints[:, 0, 0].isfinite()

    @cached_property
    def maps(self) -> Maps:
        """Signed Grad-CAM of the right classes' scores, on the cells of the layer, placed on the image."""
        assert self.captured is not None, "no layer was asked for"
        captured, layer = self.captured
        A, G = captured.activations[layer.name], captured.gradients()[layer.name][:, 0]
        maps = network_importance(at_least_float32(A), at_least_float32(G), "gradcam").unflatten(1, A.shape[2:])
        return layer.layout.on_image(maps.unsqueeze(1), tuple(self.images.shape[2:])).squeeze(1)

    @property
    def importance(self) -> Importance:
        """Importance of cells to the right class's score, by Grad-CAM; at most ``MOST_CELLS`` cells a side."""
        return pooled(self.maps).flatten(1)

    @cached_property
    def cell_hints(self) -> Importance:
        """Human importance of the cells of :attr:`importance`; NaN for images without a hint."""
        grid, human = pooled(self.maps.detach()).shape[1:], self.hints.cpu()
        known = human[:, 0, 0].isfinite()
        found = human.new_full((len(human), grid.numel()), torch.nan)
        if known.any():
            found[known] = cell_importance(human[known], (grid[0], grid[1]))
        return found.to(self.hints.device)

    @property
    def map_hints(self) -> Maps:
        """The hints on the grid of :attr:`maps`: means over the cells, NaN for images without a hint."""
        return F.interpolate(self.hints.unsqueeze(1), self.maps.shape[1:], mode="area").squeeze(1)


def training_pass(
    model: Model,
    network: nn.Module,
    images: Images,
    labels: Int[Tensor, " batch"],
    hints: HumanMaps,
    layer: Watched | None = None,
    *,
    input_gradients: bool = False,
    step: int = 0,
    seed: int = 0,
) -> TrainingPass:
    """Run the network on a batch, with a graph through all of it.

    Args:
        model: says where the class scores are.
        network: the network in training, its module or that in a wrapper of it.
        images: preprocessed.
        labels: the right classes.
        hints: in pixels of the input, NaN without a hint.
        layer: the layer whose maps are asked for; None asks for none.
        input_gradients: whether the images require a gradient.
        step, seed: of the training run.
    """
    images = images.requires_grad_() if input_gradients else images
    outputs: list[ModelOutput] = []

    def right_scores(raw: object) -> Tensor:
        outputs.append(class_scores(model, model.output, len(images), raw))
        return right_class_scores(outputs[-1], labels).unsqueeze(1)

    given = model.feed(images) if model.feed is not None else images
    captured = None
    with sdpa_kernel(SDPBackend.MATH):  # the gradients of fused attention have no derivative
        if layer is None:
            right_scores(tree.call(network, given))
        else:
            captured = capture(network, given, [layer], right_scores, create_graph=True), layer
    return TrainingPass(images, outputs[-1], labels, hints, captured, step, seed)


def output_of(model: Model, network: nn.Module, images: Images) -> ModelOutput:
    """The class scores of preprocessed images, in evaluation mode, without a graph."""
    with exclusive_run(network), torch.no_grad():
        raw = tree.call(network, model.feed(images) if model.feed is not None else images)
    return class_scores(model, model.output, len(images), raw)


def task_losses(output: ModelOutput, labels: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The loss of every sample: cross-entropy, or the sum of binary ones where classes are independent.

    >>> task_losses(ModelOutput(torch.zeros(1, 4)), torch.tensor([0]))
    tensor([1.3863])
    """
    logits = output.log_probabilities()
    if output.multilabel or logits.shape[1] == 1:
        wanted = F.one_hot(labels, logits.shape[1]).to(logits) if logits.shape[1] > 1 else labels[:, None].to(logits)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)
    return F.cross_entropy(logits, labels, reduction="none")


def right_class_scores(output: ModelOutput, labels: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The logit of every sample's right class; of a network with one output the log-odds of class 1, or of class 0.

    >>> right_class_scores(ModelOutput(torch.tensor([[2.0], [2.0]])), torch.tensor([1, 0]))
    tensor([ 2., -2.])
    """
    logits = output.values("logit")
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * labels - 1)
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1)


def predicted(scores: Float[Tensor, "batch class"]) -> Int[Tensor, " batch"]:
    """The likeliest class; of a network with one output class 1 where its log-odds are positive.

    >>> predicted(torch.tensor([[-1.0], [1.0]]))
    tensor([0, 1])
    """
    return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)


def pooled(maps: Maps) -> Maps:
    """Maps with at most ``MOST_CELLS`` cells a side.

    >>> pooled(torch.zeros(1, 28, 7)).shape
    torch.Size([1, 14, 7])
    """
    grid = (min(maps.shape[1], MOST_CELLS), min(maps.shape[2], MOST_CELLS))
    return maps if maps.shape[1:] == grid else F.adaptive_avg_pool2d(maps.unsqueeze(1), grid).squeeze(1)


def nan_if_not_finite(error: WeightsError) -> Tensor:
    """The loss of a network whose scores are not finite; the training loop refuses it and names the step."""
    if "finite" not in str(error):
        raise error
    return torch.tensor(torch.nan)
