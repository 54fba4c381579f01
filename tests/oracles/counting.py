"""Errors of counts, the counts of a grid's cells, and the networks that count, number by number, in float64.

Chattopadhyay et al., 2017. Numbers are Python's; boxes are (left, top, right, bottom).
"""

import math
from collections.abc import Sequence

Box = Sequence[float]


def after_processing(value: float) -> int:
    """round(max(c, 0)), halves upwards."""
    return math.floor(max(value, 0.0) + 0.5)


def error(
    predicted: Sequence[Sequence[float]], counts: Sequence[Sequence[int]], relative: bool, nonzero: bool
) -> float:
    """The mean over classes of the root mean square error, over the positive images only if ``nonzero``."""
    each = []
    for k in range(len(counts[0])):
        total, images = 0.0, 0
        for row, true in zip(predicted, counts, strict=True):
            if nonzero and true[k] == 0:
                continue
            square = float(after_processing(row[k]) - true[k]) ** 2
            total += square / (true[k] + 1) if relative else square
            images += 1
        if images:
            each.append(math.sqrt(total / images))
    return math.fsum(each) / len(each)


def cell_counts(boxes: Sequence[Box], labels: Sequence[int], classes: int, frame: Box, grid: int) -> list[list[float]]:
    """The count of each class in each cell, down the first column first; parts outside are lost."""
    left, top, right, bottom = frame
    wide, high = (right - left) / grid, (bottom - top) / grid
    found = []
    for column in range(grid):
        for row in range(grid):
            cell = [0.0] * classes
            x, y = left + column * wide, top + row * high
            for (a, b, c, d), label in zip(boxes, labels, strict=True):
                common = max(0.0, min(c, x + wide) - max(a, x)) * max(0.0, min(d, y + high) - max(b, y))
                cell[label] += common / ((c - a) * (d - b))
            found.append(cell)
    return found


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def linear(x: Sequence[float], weight: Sequence[Sequence[float]], bias: Sequence[float]) -> list[float]:
    return [math.fsum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def relu(x: Sequence[float]) -> list[float]:
    return [max(0.0, value) for value in x]


def perceptron(x: Sequence[float], weights: dict[str, list], layers: int) -> list[float]:
    """[Linear, batch norm with running statistics, ReLU] for each layer, then Linear: glance, and a cell of aso-sub."""
    for layer in range(layers):
        x = linear(x, weights[f"net.{3 * layer}.weight"], weights[f"net.{3 * layer}.bias"])
        norm = f"net.{3 * layer + 1}."
        scale, shift, mean, variance = (
            weights[norm + name] for name in ("weight", "bias", "running_mean", "running_var")
        )
        x = relu(
            [
                a * (v - m) / math.sqrt(s2 + 1e-5) + b
                for v, a, b, m, s2 in zip(x, scale, shift, mean, variance, strict=True)
            ]
        )
    return linear(x, weights[f"net.{3 * layers}.weight"], weights[f"net.{3 * layers}.bias"])


def lstm(sequence: Sequence[Sequence[float]], weights: dict[str, list], ending: str) -> list[list[float]]:
    """The hidden states of an LSTM; gates in the order input, forget, cell, output."""
    size = len(weights[f"bias_ih{ending}"]) // 4
    h, c, states = [0.0] * size, [0.0] * size, []
    for x in sequence:
        from_input = linear(x, weights[f"weight_ih{ending}"], weights[f"bias_ih{ending}"])
        from_state = linear(h, weights[f"weight_hh{ending}"], weights[f"bias_hh{ending}"])
        gates = [a + b for a, b in zip(from_input, from_state, strict=True)]
        for n in range(size):
            i, f, g, o = (gates[n + part * size] for part in range(4))
            c[n] = sigmoid(f) * c[n] + sigmoid(i) * math.tanh(g)
            h[n] = sigmoid(o) * math.tanh(c[n])
        states.append(list(h))
    return states


def sequential_subitizing(
    cells: Sequence[Sequence[float]], orders: Sequence[Sequence[int]], weights: dict[str, list], layers: int
) -> list[list[float]]:
    """The counts of cells; the weights are lists by the names of the network's parameters."""
    joined: list[list[float]] = [[] for _ in cells]
    for number, order in enumerate(orders):
        prefix = f"readers.{number}."
        of_projection = weights[f"{prefix}projection.weight"], weights[f"{prefix}projection.bias"]
        states = [relu(linear(relu(cells[cell]), *of_projection)) for cell in order]
        for layer in range(layers):
            here = f"{prefix}lstms.{layer}."
            own = {name.removeprefix(here): value for name, value in weights.items() if name.startswith(here)}
            forwards = lstm(states, own, "_l0")
            backwards = lstm(states[::-1], own, "_l0_reverse")[::-1]
            states = [one + other for one, other in zip(forwards, backwards, strict=True)]
        for cell, state in zip(order, states, strict=True):
            joined[cell] += state
    return [linear(relu(state), weights["output.weight"], weights["output.bias"]) for state in joined]


def huber(predicted: Sequence[Sequence[Sequence[float]]], counts: Sequence, delta: float) -> float:
    """The sum over cells of the mean over images and classes."""
    images, cells, classes = len(predicted), len(predicted[0]), len(predicted[0][0])
    total = 0.0
    for j in range(cells):
        of_cell = 0.0
        for b in range(images):
            for k in range(classes):
                e = abs(predicted[b][j][k] - counts[b][j][k])
                of_cell += e * e / 2 if e <= delta else delta * (e - delta / 2)
        total += of_cell / (images * classes)
    return total
