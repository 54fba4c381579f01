"""One weight a position and channel: HiResCAM, element-wise Grad-CAM and Layer-CAM, loop by loop."""

import numpy as np

from oracles.registry import oracle


@oracle("hirescam")
def hirescam(A: np.ndarray, G: np.ndarray, *, relu: bool = True) -> np.ndarray:
    """Draelos and Carin, 2020, equation 7; with the ReLU that displays have."""
    out = np.zeros(A.shape[1:])
    for p in np.ndindex(*out.shape):
        total = 0.0
        for k in range(len(A)):
            total += float(G[k][p]) * float(A[k][p])
        out[p] = max(total, 0.0) if relu else total
    return out


@oracle("gradcam-elementwise")
def gradcam_elementwise(A: np.ndarray, G: np.ndarray, *, relu: bool = True) -> np.ndarray:
    """The pytorch-grad-cam package, 2022: every product is rectified by itself."""
    out = np.zeros(A.shape[1:])
    for p in np.ndindex(*out.shape):
        for k in range(len(A)):
            product = float(G[k][p]) * float(A[k][p])
            out[p] += max(product, 0.0) if relu else product
    return out


@oracle("layercam")
def layercam(A: np.ndarray, G: np.ndarray, *, relu: bool = True) -> np.ndarray:
    """Jiang et al., 2021, equations 5 to 7."""
    out = np.zeros(A.shape[1:])
    for p in np.ndindex(*out.shape):
        total = 0.0
        for k in range(len(A)):
            total += max(float(G[k][p]), 0.0) * float(A[k][p])
        out[p] = max(total, 0.0) if relu else total
    return out
