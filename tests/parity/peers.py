"""The maps of other packages, taken before they rescale and resize them: pytorch-grad-cam, torchcam, captum.

Each function gives [batch, height, width] on the layer's own grid, signed where the package lets us have the sign.
"""

import copy
import warnings
from collections.abc import Callable
from importlib import import_module
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
}
"""pytorch-grad-cam's class for each of our methods."""

TORCHCAM = {
    "cam": "CAM",
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMpp",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
}
"""torchcam's class for each of our methods."""


def module(name: str) -> Any:
    """A package that is not ours, with whatever it warns of while it is imported kept quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def available(name: str) -> bool:
    """Whether a package can be imported."""
    try:
        module(name)
    except ImportError:
        return False
    return True


def _layer(network: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """A copy of the network for the package to work on (it may leave it changed), and its layer."""
    mine = copy.deepcopy(network).requires_grad_()
    return mine, mine.get_submodule(name)


def grad_cam(
    method: str,
    network: nn.Module,
    layer: str,
    inputs: Tensor,
    classes: list[int],
    reshape: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The signed map of pytorch-grad-cam, from ``get_cam_image``, where it is neither clipped nor rescaled yet."""
    package, targets = module("pytorch_grad_cam"), module("pytorch_grad_cam.utils.model_targets")
    kept = []

    class Raw(getattr(package, GRAD_CAM[method])):  # type: ignore[misc]
        def get_cam_image(self, *args: Any, **kwargs: Any) -> Any:
            found = super().get_cam_image(*args, **kwargs)
            kept.append(torch.as_tensor(found))
            return found

    mine, watched = _layer(network, layer)
    # It divides 0 by 0 where a map is zero, and squares gradients until they are no numbers.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Raw(mine, [watched], reshape_transform=reshape) as cam:
            cam(inputs.clone(), [targets.ClassifierOutputTarget(c) for c in classes])
    return kept[0]


def torchcam(method: str, network: nn.Module, layer: str, inputs: Tensor, classes: list[int]) -> Tensor:
    """The map of torchcam with ``normalized=False``: rectified, but for CAM."""
    kind = getattr(module("torchcam.methods"), TORCHCAM[method])
    mine, _ = _layer(network, layer)
    extra = {"fc_layer": "fc"} if method == "cam" else {}
    with kind(mine, layer, **extra) as cam:
        scores = mine(inputs.clone())
        return cam(classes, scores, normalized=False)[0].detach()


def captum(network: nn.Module, layer: str, inputs: Tensor, classes: list[int], *, relu: bool = True) -> Tensor:
    """The map of captum's ``LayerGradCam``, as it comes [batch, 1, ...]."""
    mine, watched = _layer(network, layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attribution = module("captum.attr").LayerGradCam(mine, watched)
        return attribution.attribute(inputs.clone(), classes, relu_attributions=relu).detach()
