"""The methods once more, written from the published equations as plain loops over Python floats.

Slow on purpose, and independent on purpose: nothing here comes from saywhy, and nothing is vectorised, so that an
oracle and the function that it judges cannot share a mistake. Each takes the activations and gradients of one sample,
float64 arrays [channel, *space], and gives the map [*space].

A new method is tested by the whole harness as soon as its oracle has a line in ``ORACLES``.
"""

from collections.abc import Callable

import numpy as np

from oracles.channel import cam, gradcam, gradcam_pp, xgradcam
from oracles.eigen import eigencam, eigengradcam
from oracles.elementwise import gradcam_elementwise, hirescam, layercam

ORACLES: dict[str, Callable[..., np.ndarray]] = {
    "cam": cam,
    "eigencam": eigencam,
    "eigengradcam": eigengradcam,
    "gradcam": gradcam,
    "gradcam++": gradcam_pp,
    "gradcam-elementwise": gradcam_elementwise,
    "hirescam": hirescam,
    "layercam": layercam,
    "xgradcam": xgradcam,
}
"""By the method's name in the registry."""
