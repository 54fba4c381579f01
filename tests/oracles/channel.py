"""One weight a channel: CAM, Grad-CAM, Grad-CAM++ and XGrad-CAM, loop by loop."""

import numpy as np

from oracles.registry import oracle


def _positions(maps: np.ndarray) -> list[tuple[int, ...]]:
    return list(np.ndindex(*maps.shape[1:]))


def _weighted(weights: list[float], A: np.ndarray, relu: bool) -> np.ndarray:
    """sum_k w_k A^k at every position, and its positive part."""
    out = np.zeros(A.shape[1:])
    for p in _positions(A):
        total = 0.0
        for k in range(len(A)):
            total += weights[k] * float(A[k][p])
        out[p] = max(total, 0.0) if relu else total
    return out


@oracle("gradcam")
def gradcam(A: np.ndarray, G: np.ndarray, *, relu: bool = True, pooling: str = "mean") -> np.ndarray:
    """Selvaraju et al., 2017, equations 1 and 2; the poolings of appendix B."""
    weights = []
    for k in range(len(A)):
        values = [float(G[k][p]) for p in _positions(G)]
        if pooling == "max":
            best = values[0]
            for value in values:
                best = value if value > best else best
            weights.append(best)
            continue
        total = 0.0
        for value in values:
            total += abs(value) if pooling == "abs" else value
        weights.append(total / len(values))
    return _weighted(weights, A, relu)


@oracle("gradcam++")
def gradcam_pp(A: np.ndarray, G: np.ndarray, *, relu: bool = True) -> np.ndarray:
    """Chattopadhay et al., 2018, equation 19 as printed, with the powers of the gradient as the derivatives.

    alpha = g^2 / (2 g^2 + sum_q A_q g^3), w = sum_p alpha relu(g). For y = exp(S) every derivative has the factor
    exp(S), which leaves alpha as it is.
    """
    weights = []
    for k in range(len(A)):
        summed = 0.0
        for q in _positions(A):
            summed += float(A[k][q])
        weight = 0.0
        for p in _positions(G):
            g = float(G[k][p])
            numerator, denominator = g**2, 2 * g**2 + summed * g**3
            alpha = numerator / denominator if denominator != 0 else 0.0
            weight += alpha * max(g, 0.0)
        weights.append(weight)
    return _weighted(weights, A, relu)


@oracle("xgradcam")
def xgradcam(A: np.ndarray, G: np.ndarray, *, relu: bool = True) -> np.ndarray:
    """Fu et al., 2020, equation 8: w = sum_p (A_p / sum_q A_q) g_p; an inactive channel counts for nothing."""
    weights = []
    for k in range(len(A)):
        summed = 0.0
        for q in _positions(A):
            summed += float(A[k][q])
        weight = 0.0
        for p in _positions(A):
            weight += float(A[k][p]) / summed * float(G[k][p]) if summed != 0 else 0.0
        weights.append(weight)
    return _weighted(weights, A, relu)


@oracle("cam")
def cam(A: np.ndarray, G: np.ndarray, *, relu: bool = False) -> np.ndarray:
    """Zhou et al., 2016, equation 2; the head's weight is what the gradient sums to (Grad-CAM, section 3.1)."""
    weights = []
    for k in range(len(A)):
        weight = 0.0
        for p in _positions(G):
            weight += float(G[k][p])
        weights.append(weight)
    return _weighted(weights, A, relu)
