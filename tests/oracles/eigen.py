"""The first principal component by Jacobi rotations: no linear-algebra library, no iteration that stops too early."""

import math

import numpy as np

from oracles.registry import oracle


@oracle("eigencam")
def eigencam(A: np.ndarray, G: np.ndarray, *, relu: bool = True, center: bool = False) -> np.ndarray:
    """Muhammad and Yeasin, 2020, equations 3 to 5: O = U S V^T of [position, channel], the map is O v_1."""
    rows = [[float(A[k][p]) for k in range(len(A))] for p in np.ndindex(*A.shape[1:])]
    return _component(rows, relu, center).reshape(A.shape[1:])


@oracle("eigengradcam")
def eigengradcam(A: np.ndarray, G: np.ndarray, *, relu: bool = True, center: bool = False) -> np.ndarray:
    """The pytorch-grad-cam package, 2021: the same of the products of gradient and activation."""
    rows = [[float(G[k][p]) * float(A[k][p]) for k in range(len(A))] for p in np.ndindex(*A.shape[1:])]
    return _component(rows, relu, center).reshape(A.shape[1:])


def _component(rows: list[list[float]], relu: bool, center: bool) -> np.ndarray:
    """O v_1 = sigma_1 u_1, where u_1 is the first eigenvector of O O^T; it rises with the sum of the channels."""
    if center:
        for k in range(len(rows[0])):
            mean = sum(row[k] for row in rows) / len(rows)
            for row in rows:
                row[k] -= mean
    # In units of the largest entry, so that squares of small gradients stay numbers.
    unit = max(abs(value) for row in rows for value in row) or 1.0
    gram = [[sum(a * b for a, b in zip(p, q, strict=True)) / unit**2 for q in rows] for p in rows]
    value, vector = _largest(gram)
    component = [math.sqrt(max(value, 0.0)) * unit * v for v in vector]
    rising = sum(c * sum(row) for c, row in zip(component, rows, strict=True))
    most = sum(abs(c) * sum(abs(value) for value in row) for c, row in zip(component, rows, strict=True))
    if abs(rising) <= 1e-4 * most:  # the channels cancel at every position, and their sum says nothing
        rising = max(component, key=abs)
    signed = [-c if rising < 0 else c for c in component]
    return np.array([max(c, 0.0) if relu else c for c in signed])


def _largest(matrix: list[list[float]]) -> tuple[float, list[float]]:
    """The largest eigenvalue of a symmetric matrix and its eigenvector, by cyclic Jacobi rotations."""
    n = len(matrix)
    a = [list(row) for row in matrix]
    v = [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]
    for _ in range(60):
        if sum(a[i][j] ** 2 for i in range(n) for j in range(n) if i != j) < 1e-34 * sum(
            a[i][i] ** 2 for i in range(n)
        ):
            break
        for i in range(n):
            for j in range(i + 1, n):
                if a[i][j] == 0:
                    continue
                theta = 0.5 * math.atan2(2 * a[i][j], a[j][j] - a[i][i])
                c, s = math.cos(theta), math.sin(theta)
                for row in (*a, *v):
                    row[i], row[j] = c * row[i] - s * row[j], s * row[i] + c * row[j]
                a[i], a[j] = (
                    [c * x - s * y for x, y in zip(a[i], a[j], strict=True)],
                    [s * x + c * y for x, y in zip(a[i], a[j], strict=True)],
                )
    best = max(range(n), key=lambda i: a[i][i])
    return a[best][best], [v[i][best] for i in range(n)]
