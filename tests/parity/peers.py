"""The maps of other packages, taken before they rescale and resize them: pytorch-grad-cam, torchcam, captum.

Each function gives [batch, height, width] on the layer's own grid, signed where the package lets us have the sign.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

GRAD_CAM = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "gradcam-elementwise": "GradCAMElementWise",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "segeigencam": "SegEigenCAM",
    "kpcacam": "KPCA_CAM",
    "fem": "FEM",
    "shapleycam": "ShapleyCAM",
    "ablationcam": "AblationCAM",
    "scorecam": "ScoreCAM",
}
"""pytorch-grad-cam's class for each of our methods."""

TORCHCAM = {
    "cam": "CAM",
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMpp",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "smooth-gradcam++": "SmoothGradCAMpp",
    "scorecam": "ScoreCAM",
    "sscam": "SSCAM",
    "iscam": "ISCAM",
}
"""torchcam's class for each of our methods."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and the progress bars of packages that are not ours."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def module(name: str) -> Any:
    """A package that is not ours, with whatever it says while it is imported kept quiet."""
    with quiet():
        return import_module(name)


def available(name: str) -> bool:
    """Whether a package is installed; it is not imported, which takes seconds of every run."""
    return find_spec(name) is not None


def _layer(network: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """A copy of the network for the package to work on (it may leave it changed), and its layer."""
    mine = copy.deepcopy(network).requires_grad_()
    return mine, mine.get_submodule(name)


def grad_cam(
    method: str,
    network: nn.Module,
    layer: str,
    inputs: Tensor,
    targets: Sequence[Any],
    reshape: Callable[[Tensor], Tensor] | None = None,
    *,
    weights: list[Tensor] | None = None,
    batch_size: int | None = None,
    **settings: Any,
) -> Tensor:
    """The signed map of pytorch-grad-cam, from ``get_cam_image``, where it is neither clipped nor rescaled yet.

    Args:
        method: of ours.
        network, layer, inputs: what is explained, and where.
        targets: classes, or targets of that package.
        reshape: from tokens to maps.
        weights: a list to which the weights of the channels are added, [batch, channel].
        batch_size: of what it runs, if not its own.
        settings: of its class.
    """
    package, choose = module("pytorch_grad_cam"), module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    kept = []

    class Raw(getattr(package, GRAD_CAM[method])):  # type: ignore[misc]
        def get_cam_weights(self, *args: Any, **kwargs: Any) -> Any:
            found = super().get_cam_weights(*args, **kwargs)
            if weights is not None:
                weights.append(torch.as_tensor(found).detach())
            return found

        def get_cam_image(self, *args: Any, **kwargs: Any) -> Any:
            found = super().get_cam_image(*args, **kwargs)
            kept.append(torch.as_tensor(found).detach())
            return found

    mine, watched = _layer(network, layer)
    # It divides 0 by 0 where a map is zero, and squares gradients until they are no numbers.
    with quiet(), Raw(mine, [watched], reshape_transform=reshape, **settings) as cam:
        if batch_size is not None:
            cam.batch_size = batch_size
        try:
            cam(inputs.clone(), [choose(t) if isinstance(t, int) else t for t in targets])
        finally:  # what it keeps for Shapley-CAM it cannot let go of by itself
            cam.activations_and_grads.activations, cam.activations_and_grads.gradients = [], []
    return kept[0]


def torchcam(
    method: str, network: nn.Module, layer: str, inputs: Tensor, classes: list[int], **settings: Any
) -> Tensor:
    """The map of torchcam with ``normalized=False``: rectified, but for CAM."""
    kind = getattr(module("torchcam.methods"), TORCHCAM[method])
    mine, _ = _layer(network, layer)
    with kind(mine, layer, **({"fc_layer": "fc"} if method == "cam" else {}), **settings) as cam:
        scores = mine(inputs.clone())
        return cam(classes, scores, normalized=False)[0].detach()


def captum(network: nn.Module, layer: str, inputs: Tensor, classes: list[int], *, relu: bool = True) -> Tensor:
    """The map of captum's ``LayerGradCam``, as it comes [batch, 1, ...]."""
    mine, watched = _layer(network, layer)
    with quiet():
        attribution = module("captum.attr").LayerGradCam(mine, watched)
        return attribution.attribute(inputs.clone(), classes, relu_attributions=relu).detach()
