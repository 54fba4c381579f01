"""Methods of several passes, and of pixels, as captum, pytorch-grad-cam, torchcam and zennit make them.

Each is compared if its equation is ours, or should be and is not; ``test_runs.py`` in this folder and the second table
of ``docs/parity.md`` cover all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity import packages
from parity.cases import CONVOLUTIONAL, Case, build, scaled
from parity.packages import DRAWS, STEPS, Make, captum, grad_cam, noise_tunnel, summed, torchcam, zennit

ALL = (*CONVOLUTIONAL, "vit (torchvision)")
PLAIN = ("resnet18", "squeezenet1_0", "vit (torchvision)")
"""Without the kinks of ReLU6, over which rounding moves the places of a path."""
EVEN = ("resnet18", "mobilenet_v2", "vit (torchvision)")
"""Whose images have a multiple of 16 values: many drawn together are then the same as one by one."""
RECTIFIED = ("squeezenet1_0", "mnasnet0_5", "shufflenet_v2_x0_5", "resnet18")
"""Whose rectifiers are modules, and no ReLU6."""


@dataclass(frozen=True)
class Peer:
    """How another package makes one of our methods.

    Attributes:
        package: as it is called.
        theirs: its map.
        ours: our map, with the settings at which it is the same equation.
        networks: names of cases.
        same: whether the maps agree.
        note: why they do not, or only at these settings.
        head: the unit of the score.
        single: compared in float32: methods that ask for scores alone. Gradients are compared in float64, as rounding
            to float32 puts one of the million rectifiers of a path on the other side of its kink on some machines.
    """

    package: str
    theirs: Make
    ours: Make
    networks: tuple[str, ...]
    same: bool = True
    note: str = ""
    head: float = 1.0
    single: bool = False

    def case(self, network: str) -> Case:
        """One of the networks, with its score in its unit."""
        case = scaled(build(network), self.head)
        return case if self.single else case.double()

    def cases(self) -> Iterator[Case]:
        """All of the networks."""
        return map(self.case, self.networks)


def ours(method: str, **settings: Any) -> Make:
    """Our map."""
    return lambda case: case.maps(method, **settings)


def walked_back(case: Case) -> Tensor:
    """From the image to the baseline, which turns the sign round; what was the end of a step is its beginning."""
    places = torch.linspace(1, 0, STEPS + 1).tolist()
    path = [torch.stack([a * x for a in places]) for x in case.inputs]
    return -case.maps("integrated-gradients", path=path, rule="left")


_UNSEEN = "does not see rectifiers that are functions or ReLU6 (MobileNetV2), and gives the plain gradient there."
_LEFT = {"steps": STEPS, "baseline": "zero", "rule": "left"}
_PLAIN_RSI = {**_LEFT, "variant": "plain", "relu": False}
_WINDOWS = {"window": 32, "fill": "zero", "score": "logit"}
_PAIR = ("resnet18", "mobilenet_v2")
_MODELS = {"num_samples": 40, "cells": 3, "fill": 1.0, "score": "logit"}

PEERS: dict[str, tuple[Peer, ...]] = {
    "saliency": (Peer("captum", captum("Saliency", lambda a: a.amax(1)), ours("saliency"), ALL),),
    "input-times-gradient": (Peer("captum", captum("InputXGradient", summed), ours("input-times-gradient"), ALL),),
    "integrated-gradients": (
        Peer(
            "captum",
            captum(
                "IntegratedGradients",
                lambda a: a.sum(1) * (STEPS + 1) / STEPS,
                baselines=0,
                n_steps=STEPS + 1,
                method="riemann_trapezoid",
            ),
            ours("integrated-gradients", steps=STEPS, baseline="zero"),
            PLAIN,
            note="with `riemann_trapezoid` walks over n places and gives each 1/n, half of it to the ends, so that its "
            "attributions add up to (n - 1)/n of the change of the score; ours add up.",
        ),
        Peer(
            "zennit",
            packages.zennit_integrated,
            walked_back,
            PLAIN,
            note="takes the gradient at the end of every step, which is ours walked back with `rule='left'`.",
        ),
    ),
    "conductance": (
        Peer(
            "captum",
            lambda case: packages.conductance(case).sum(1),
            ours("conductance", **_LEFT),
            CONVOLUTIONAL,
            note="takes the gradient at the beginning of every step, with `riemann_trapezoid` too: `rule='left'`.",
        ),
        Peer(
            "captum",
            lambda case: packages.conductance(case, "probability").sum(1),
            ours("conductance", score="probability", **_LEFT),
            CONVOLUTIONAL,
        ),
    ),
    "rsi-gradcam": (
        Peer(
            "captum",
            packages.weighted_by_mean_conductance,
            ours("rsi-gradcam", **_PLAIN_RSI),
            CONVOLUTIONAL,
            note="does not have it; what is compared is `variant='plain'`, whose weights are the means of its "
            "`LayerConductance`.",
        ),
    ),
    "smoothgrad": (
        Peer(
            "captum",
            noise_tunnel("smoothgrad", lambda a: a.abs().amax(1)),
            ours("smoothgrad", num_samples=DRAWS),
            EVEN,
        ),
        Peer(
            "zennit",
            packages.zennit_smooth,
            ours("smoothgrad", num_samples=DRAWS),
            EVEN[:1],
            same=False,
            note=f"counts the image without noise as the last of its copies, here of {DRAWS}; the paper's are all "
            "noisy.",
        ),
    ),
    "vargrad": (Peer("captum", noise_tunnel("vargrad", summed), ours("vargrad", num_samples=DRAWS), EVEN),),
    "smooth-gradcam++": (
        Peer(
            "torchcam",
            torchcam("smooth-gradcam++", num_samples=2, std=1e-9),
            ours("smooth-gradcam++", num_samples=2, noise=0.0),
            CONVOLUTIONAL,
            head=1e3,
        ),
        Peer(
            "torchcam",
            packages.torchcam_smooth,
            ours("smooth-gradcam++", num_samples=DRAWS),
            EVEN[:2],
            same=False,
            note="multiplies by the gradient of the last noisy copy, where the equation has the mean of all; has the "
            "cube inside the sum of the denominator, as its `gradcam++`; and adds 1e-8 to it. The same without noise, "
            "behind a mean over places, where gradients are large (a score × 1000).",
        ),
    ),
    "shapleycam": (Peer("grad-cam", grad_cam("shapleycam"), ours("shapleycam", relu=False), CONVOLUTIONAL),),
    "guided-backprop": (
        Peer("captum", captum("GuidedBackprop", summed), ours("guided-backprop"), RECTIFIED),
        Peer("grad-cam", packages.grad_cam_guided, ours("guided-backprop"), RECTIFIED),
        Peer("zennit", zennit("GuidedBackprop"), ours("guided-backprop"), RECTIFIED),
        *(
            Peer(package, theirs, ours("guided-backprop"), ("mobilenet_v2",), same=False, note=_UNSEEN)
            for package, theirs in (
                ("captum", captum("GuidedBackprop", summed)),
                ("grad-cam", packages.grad_cam_guided),
                ("zennit", zennit("GuidedBackprop")),
            )
        ),
    ),
    "deconvnet": (
        Peer("captum", captum("Deconvolution", summed), ours("deconvnet"), RECTIFIED),
        Peer("zennit", zennit("DeconvNet"), ours("deconvnet"), RECTIFIED),
        *(
            Peer(package, theirs, ours("deconvnet"), ("mobilenet_v2",), same=False, note=_UNSEEN)
            for package, theirs in (
                ("captum", captum("Deconvolution", summed)),
                ("zennit", zennit("DeconvNet")),
            )
        ),
    ),
    "guided-gradcam": (
        Peer(
            "captum",
            captum("GuidedGradCam", summed, layer=True, interpolate_mode="bilinear"),
            ours("guided-gradcam"),
            RECTIFIED,
            note="upsamples to the nearest cell unless told otherwise, where the paper says bilinear: "
            "`interpolate_mode='bilinear'`.",
        ),
    ),
    "excitation-backprop": (
        Peer(
            "zennit",
            zennit("ExcitationBackprop", merged=True, at_layer=True, zero_params=["bias"]),
            ours("excitation-backprop"),
            ("resnet18", "squeezenet1_0"),
            note="gives biases a share unless told otherwise, which the paper does not: `zero_params=['bias']`.",
        ),
        Peer(
            "zennit",
            zennit("ExcitationBackprop", merged=True, at_layer=True, zero_params=["bias"]),
            ours("excitation-backprop"),
            ("mobilenet_v2",),
            same=False,
            note="does not see pooling that is a function (MobileNetV2), and hands back the plain gradient there.",
        ),
    ),
    "lrp": (
        Peer(
            "zennit",
            zennit("EpsilonPlus", merged=True),
            ours("lrp"),
            RECTIFIED,
            note="is what we run, on a copy. What it leaves of a merged batch norm divides by √(1 + eps), which misses "
            "the identity by 5e-6, and by 1e-3 where it puts a rectifier on the other side of its kink; ours does not. "
            "Compared with its eps at zero.",
        ),
    ),
    "fullgrad": (
        Peer(
            "grad-cam",
            packages.grad_cam_fullgrad,
            ours("fullgrad", rescale="channel"),
            ("resnet18", "squeezenet1_0"),
            head=1e3,
        ),
        Peer(
            "grad-cam",
            packages.grad_cam_fullgrad,
            ours("fullgrad"),
            CONVOLUTIONAL,
            same=False,
            note="stretches every channel by itself, where the authors' code stretches a layer: `rescale='channel'`. "
            "It adds 1e-7 to what it divides by, which silences channels of small terms: the same only where gradients "
            "are large (a score × 1000).",
        ),
    ),
    "occlusion": (
        Peer(
            "captum",
            captum(
                "Occlusion",
                lambda a: a[:, 0],
                sliding_window_shapes=(3, 32, 32),
                strides=(3, 16, 16),
                baselines=0,
            ),
            ours("occlusion", stride=16, **_WINDOWS),
            _PAIR,
            single=True,
            note="lets the last window hang over the border, where it hides less; ours moves back. Compared where no "
            "window does.",
        ),
        Peer(
            "zennit",
            packages.zennit_occlusion,
            ours("occlusion", stride=32, **_WINDOWS),
            _PAIR,
            single=True,
            note="shows what is in the window and hides the rest unless told otherwise, gives the score and not its "
            "change, and adds up where windows overlap. Compared where it is told, and none do.",
        ),
    ),
    "scorecam": (
        Peer("grad-cam", grad_cam("scorecam"), ours("scorecam", relu=False), ("unpooled",), single=True),
        Peer(
            "grad-cam",
            grad_cam("scorecam"),
            ours("scorecam", relu=False),
            ("squeezenet1_0",),
            single=True,
            same=False,
            note="upsamples masks with their corners aligned, which the authors' code does not: the same where nothing "
            "is upsampled.",
        ),
        Peer(
            "torchcam",
            torchcam("scorecam", batch_size=8),
            ours("scorecam"),
            ("unpooled",),
            single=True,
            note="stretches masks to the range from 0 to 1 before they are upsampled, the paper after: compared where "
            "nothing is upsampled.",
        ),
    ),
    "sscam": (
        Peer(
            "torchcam",
            torchcam("sscam", batch_size=8, num_samples=2, std=1e-7),
            ours("sscam", num_samples=2, noise=1e-7),
            ("unpooled",),
            single=True,
            note="draws its noise otherwise; compared with hardly any, and where nothing is upsampled.",
        ),
    ),
    "iscam": (
        Peer(
            "torchcam",
            torchcam("iscam", batch_size=8, num_samples=DRAWS),
            ours("iscam", steps=DRAWS, scale="cumulative"),
            ("unpooled",),
            single=True,
        ),
        Peer(
            "torchcam",
            torchcam("iscam", batch_size=8, num_samples=DRAWS),
            ours("iscam", steps=DRAWS),
            ("unpooled",),
            single=True,
            same=False,
            note="adds the masks up on the way, to (N + 1)/2 times the mask, where the equation scales it from 0 to 1: "
            "`scale='cumulative'`.",
        ),
    ),
    "ablationcam": (
        Peer(
            "grad-cam",
            grad_cam("ablationcam"),
            ours("ablationcam", relu=False, divisor="score"),
            CONVOLUTIONAL,
            single=True,
            note="sets a channel to its minimum less ten million where activations are below zero, by a minimum that "
            "it has just overwritten, so that its weights depend on its batch size; compared behind rectifiers, where "
            "it sets it to zero as the paper does.",
        ),
    ),
    "lime": (Peer("captum", packages.linear_model("lime"), ours("lime", **_MODELS), _PAIR, single=True),),
    "kernelshap": (
        Peer("captum", packages.linear_model("kernelshap"), ours("kernelshap", **_MODELS), _PAIR, single=True),
    ),
}
"""By method of ours. No package that is installed here has the methods that are missing."""
