"""The methods once more, written from the published equations as plain loops over Python floats.

Slow on purpose, and independent on purpose: nothing here comes from saywhy, and nothing is vectorised, so that an
oracle and the function that it judges cannot share a mistake. Each takes the activations and gradients of one sample,
float64 arrays [channel, *space], and gives the map [*space].

A new method of one pass is tested by the whole harness as soon as its oracle has a line in ``ORACLES``; one that runs
the network itself as soon as it has a line in ``RUN_ORACLES``: those take an ``Observed`` network and one image
[channel, *space], and give the map.
"""

from collections.abc import Callable

import numpy as np

from oracles.attention import attention, attention_rollout, generic_attention, gradient_rollout, model_attention
from oracles.channel import cam, gradcam, gradcam_pp, xgradcam
from oracles.eigen import eigencam, eigengradcam
from oracles.elementwise import gradcam_elementwise, hirescam, layercam
from oracles.factors import fem, kpcacam, segeigencam, shapleycam
from oracles.path import conductance, integrated_gradcam, integrated_gradients, rsi_gradcam
from oracles.perturbation import ablationcam, iscam, kernelshap, lime, occlusion, reciprocam, rise, scorecam, sscam
from oracles.pixels import input_times_gradient, saliency
from oracles.relevance import lrp
from oracles.rules import (
    contrastive_excitation_backprop,
    deconv_gradcam,
    deconvnet,
    excitation_backprop,
    fullgrad,
    guided_backprop,
    guided_gradcam,
)
from oracles.smooth import smooth_gradcam_pp, smoothgrad, vargrad

ORACLES: dict[str, Callable[..., np.ndarray]] = {
    "cam": cam,
    "eigencam": eigencam,
    "eigengradcam": eigengradcam,
    "fem": fem,
    "gradcam": gradcam,
    "gradcam++": gradcam_pp,
    "gradcam-elementwise": gradcam_elementwise,
    "hirescam": hirescam,
    "input-times-gradient": input_times_gradient,
    "kpcacam": kpcacam,
    "layercam": layercam,
    "saliency": saliency,
    "segeigencam": segeigencam,
    "xgradcam": xgradcam,
}
"""By the method's name in the registry."""

RUN_ORACLES: dict[str, Callable[..., np.ndarray]] = {
    "model-attention": model_attention,
    "attention": attention,
    "attention-rollout": attention_rollout,
    "conductance": conductance,
    "integrated-gradcam": integrated_gradcam,
    "integrated-gradients": integrated_gradients,
    "generic-attention": generic_attention,
    "gradient-rollout": gradient_rollout,
    "rsi-gradcam": rsi_gradcam,
    "shapleycam": shapleycam,
    "smooth-gradcam++": smooth_gradcam_pp,
    "smoothgrad": smoothgrad,
    "vargrad": vargrad,
    "ablationcam": ablationcam,
    "iscam": iscam,
    "kernelshap": kernelshap,
    "lime": lime,
    "occlusion": occlusion,
    "reciprocam": reciprocam,
    "rise": rise,
    "scorecam": scorecam,
    "sscam": sscam,
    "contrastive-excitation-backprop": contrastive_excitation_backprop,
    "deconv-gradcam": deconv_gradcam,
    "deconvnet": deconvnet,
    "excitation-backprop": excitation_backprop,
    "fullgrad": fullgrad,
    "guided-backprop": guided_backprop,
    "guided-gradcam": guided_gradcam,
    "lrp": lrp,
}
"""The same for methods that run the network themselves."""
