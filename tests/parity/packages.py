"""Calls of captum, pytorch-grad-cam, torchcam and zennit for methods of several passes, and of pixels.

Each function gives maps [2, height, width] of a case, or makes a function that does.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parity import peers
from parity.cases import Case
from parity.peers import module

Make = Callable[[Case], Tensor]
"""From a case to its maps [2, height, width]."""

STEPS, DRAWS = 6, 4
"""How many steps every path has, and how many copies are drawn of every image."""


def one_by_one(make: Make) -> Make:
    """Each image by itself, with random numbers from the start on, as saywhy draws them."""

    def all_of(case: Case) -> Tensor:
        found = []
        for i in range(len(case.inputs)):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                found.append(make(case.sample(i)))
        return torch.cat(found)

    return all_of


def classes(case: Case) -> Tensor:
    return torch.tensor(case.classes)


# --- captum ------------------------------------------------------------------------------------------------------


def captum(kind: str, pool: Callable[[Tensor], Tensor], *, layer: bool = False, **settings: Any) -> Make:
    """A class of captum, of a copy: it leaves hooks behind where it raises."""

    def make(case: Case) -> Tensor:
        network = copy.deepcopy(case.network)
        at = [network.get_submodule(case.layer)] if layer else []
        method = getattr(module("captum.attr"), kind)(network, *at)
        with peers.quiet():
            found = method.attribute(case.inputs.clone().requires_grad_(), target=classes(case), **settings)
        return pool(found.detach())

    return make


def summed(attributions: Tensor) -> Tensor:
    return attributions.sum(1)


def conductance(case: Case, score: str = "logit") -> Tensor:
    """Captum's, which with "riemann_trapezoid" walks over linspace(0, 1) and takes every step's left gradient."""
    network = nn.Sequential(case.network, nn.Softmax(1)) if score == "probability" else case.network
    method = module("captum.attr").LayerConductance(network, case.network.get_submodule(case.layer))
    zeros = torch.zeros_like(case.inputs)
    return method.attribute(case.inputs, zeros, classes(case), n_steps=STEPS, method="riemann_trapezoid")


def weighted_by_mean_conductance(case: Case) -> Tensor:
    """RSI-Grad-CAM: w is the spatial mean of the conductance of a channel."""
    weights = conductance(case, "probability").mean((2, 3))
    return torch.einsum("bk,bkij->bij", weights, case.captured()[0])


def noise_tunnel(kind: str, pool: Callable[[Tensor], Tensor]) -> Make:
    def make(case: Case) -> Tensor:
        x, attr = case.inputs.clone(), module("captum.attr")
        spread = float(0.15 * (x.max() - x.min()))
        tunnel = attr.NoiseTunnel(attr.Saliency(copy.deepcopy(case.network)))
        with peers.quiet():
            found = tunnel.attribute(x, nt_type=kind, nt_samples=DRAWS, stdevs=spread, target=classes(case), abs=False)
        return pool(found.detach())

    return one_by_one(make)


def linear_model(name: str) -> Make:
    """Captum's own fit of the same images, in float32, with scikit-learn."""

    def near(_x: Tensor, _altered: Tensor, shown: Tensor, **_: Any) -> Tensor:
        return torch.exp(-((1 - shown.double().mean(1).sqrt()) ** 2) / (2 * 0.25**2))

    def make(case: Case) -> Tensor:
        attr, linear = module("captum.attr"), module("captum._utils.models.linear_model")
        place = torch.arange(case.inputs.shape[2]) * 3 // case.inputs.shape[2]
        parts = place[:, None] * 3 + place
        if name == "lime":
            ridge = linear.SkLearnRidge(alpha=1.0)
            explainer = attr.Lime(case.network, interpretable_model=ridge, similarity_func=near)
        else:
            explainer = attr.KernelShap(case.network)
        with torch.no_grad(), peers.quiet():
            found = explainer.attribute(
                case.inputs, baselines=1.0, target=case.classes[0], feature_mask=parts[None, None], n_samples=40
            )
        return found[:, 0]

    return one_by_one(make)


# --- pytorch-grad-cam and torchcam -------------------------------------------------------------------------------


def grad_cam(method: str, **settings: Any) -> Make:
    """The signed map of pytorch-grad-cam."""

    def make(case: Case) -> Tensor:
        return peers.grad_cam(
            method, case.network, case.layer, case.inputs, list(case.classes), case.reshape, **settings
        )

    return make


def grad_cam_guided(case: Case) -> Tensor:
    package, found = module("pytorch_grad_cam"), []
    for x, target in zip(case.inputs, case.classes, strict=True):
        model = package.GuidedBackpropReLUModel(copy.deepcopy(case.network))
        found.append(torch.from_numpy(model(x[None].clone(), target).copy()).sum(-1))
    return torch.stack(found)


def grad_cam_fullgrad(case: Case) -> Tensor:
    package, kept = module("pytorch_grad_cam"), []
    choose = module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget

    class Raw(package.FullGrad):  # type: ignore[misc, name-defined]
        def compute_cam_per_layer(self, *args: Any, **kwargs: Any) -> Any:
            kept.append(super().compute_cam_per_layer(*args, **kwargs))
            return kept[-1]

    with peers.quiet(), Raw(copy.deepcopy(case.network), []) as cam:
        cam(case.inputs.clone(), [choose(c) for c in case.classes])
    return torch.from_numpy(kept[0])[:, 0]


def torchcam(method: str, **settings: Any) -> Make:
    def make(case: Case) -> Tensor:
        return peers.torchcam(method, case.network, case.layer, case.inputs, list(case.classes), **settings)

    return make


@one_by_one
def torchcam_smooth(case: Case) -> Tensor:
    spread = float(0.15 * (case.inputs.max() - case.inputs.min()))
    return torchcam("smooth-gradcam++", num_samples=DRAWS, std=spread)(case)


# --- zennit ------------------------------------------------------------------------------------------------------


def zennit(composite: str, *, merged: bool = False, at_layer: bool = False, **settings: Any) -> Make:
    """The gradient by a composite of zennit, on a copy, with its batch norms merged or as they are."""

    def make(case: Case) -> Tensor:
        composites, canonizer = module("zennit.composites"), module("zennit.torchvision").ResNetCanonizer
        network, x = copy.deepcopy(case.network), case.inputs.clone().requires_grad_()
        kept = [x]
        chosen = getattr(composites, composite)(canonizers=[canonizer()] if merged else [], **settings)
        with chosen.context(network) as ready:
            # What it leaves of a merged batch norm divides by sqrt(1 + eps), which misses the identity by 5e-6; behind
            # dozens of them, or where a rectifier is near its kink, that comes to 1e-3.
            for norm in ready.modules() if merged else ():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.eps = 0.0
            if at_layer:
                ready.get_submodule(case.layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
            scores = ready(x).gather(1, classes(case)[:, None])
            start = scores.detach() if composite == "EpsilonPlus" else torch.ones_like(scores)
            return torch.autograd.grad(scores, kept[-1], start)[0].sum(1)

    return make


def zennit_integrated(case: Case) -> Tensor:
    kind = module("zennit.attribution").IntegratedGradients
    chosen = nn.functional.one_hot(classes(case), 10).to(case.inputs)
    return kind(case.network, n_iter=STEPS)(case.inputs.clone(), chosen)[1].sum(1)


@one_by_one
def zennit_smooth(case: Case) -> Tensor:
    kind = module("zennit.attribution").SmoothGrad
    chosen = nn.functional.one_hot(classes(case), 10).to(case.inputs)
    found = kind(case.network, noise_level=0.15, n_iter=DRAWS)(case.inputs.clone(), chosen)[1]
    return found.abs().amax(1)


def zennit_occlusion(case: Case) -> Tensor:
    """Its window is told to hide, and its score to be the change."""
    package = module("zennit.attribution")
    hide = functools.partial(package.occlude_independent, fill_fn=torch.zeros_like, invert=True)
    y = case.network(case.inputs).gather(1, classes(case)[:, None]).detach()
    method = package.Occlusion(
        case.network,
        occlusion_fn=hide,
        window=(32, 32),
        stride=(32, 32),
        attr_output=lambda output: y - output.gather(1, classes(case)[:, None]),
    )
    return method(case.inputs.clone())[1][:, 0]
