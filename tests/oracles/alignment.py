"""HINT and its rivals in loops over numbers, float64, from the papers' equations."""

import math

import numpy as np


def region_importance(human, box):
    """E_in / (E_in + E_out) of one box with whole pixels."""
    left, top, right, bottom = box
    inside, outside = [], []
    for y in range(human.shape[0]):
        for x in range(human.shape[1]):
            (inside if left <= x < right and top <= y < bottom else outside).append(float(human[y, x]))
    if not any(inside) and not any(outside):
        return math.nan
    if not outside:
        return 0.5
    density_in, density_out = sum(inside) / len(inside), sum(outside) / len(outside)
    return density_in / (density_in + density_out)


def ranking_loss(importance, hints, literal=False):
    """The sum over wrongly ordered pairs, of one item."""
    total = 0.0
    for i in range(len(hints)):
        for j in range(len(hints)):
            if i != j and (hints[i] > hints[j] or (literal and hints[i] == hints[j])):
                total += max(0.0, importance[j] - importance[i])
    return total


def spread(importance):
    """The sum of |a_i - a_j| over unordered pairs."""
    return sum(abs(a - b) for k, a in enumerate(importance) for b in importance[k + 1 :])


def zero_out(logits):
    """Binary cross-entropy with 0, summed over answers."""
    return sum(-math.log(1 - 1 / (1 + math.exp(-z))) for z in logits)


def strengthen(importance, hints, margin=1e-4):
    """The loss of one item and the rank of the chosen object."""
    order = sorted(range(len(hints)), key=lambda r: -hints[r])
    threshold = hints[order[5]] - 1e-6
    threshold = threshold + 0.1 if threshold < 0.2 else threshold
    unhinted = [k for k in range(len(hints)) if hints[k] <= threshold]
    sums = [sum(max(0.0, importance[k] + margin - importance[j]) for k in unhinted) for j in order[:5]]
    wrong = [(value, rank) for rank, value in enumerate(sums) if value > 0]
    return min(wrong) if wrong else (0.0, 0)


def critical(importances, probabilities, right, hints, rank, released=False):
    """The self-critical loss of one item, all different answers being unlike."""
    order = sorted(range(len(hints)), key=lambda r: -hints[r])
    chosen = rank if released else order[rank]
    bucket = sorted(range(len(probabilities)), key=lambda a: -probabilities[a])[:4]
    total = 0.0
    for answer in bucket:
        if answer != right and probabilities[answer] > probabilities[right]:
            gap = importances[answer][chosen] - importances[right][chosen]
            total += (probabilities[answer] - probabilities[right]) * gap * hints[chosen]
    return total


def normalised(maps):
    """The positive part divided by the maximum, of one map."""
    positive = np.maximum(maps, 0)
    return positive / positive.max() if positive.max() > 0 else positive


def map_loss(maps, wrong):
    """RRR-G of one map."""
    return sum((m * v) ** 2 for m, v in zip(wrong.ravel(), normalised(maps).ravel(), strict=True))


def softmax_zero_out(logits):
    """Binary cross-entropy of the probabilities of a softmax with 0, summed over answers."""
    weights = [math.exp(z) for z in logits]
    return sum(-math.log(1 - weight / sum(weights)) for weight in weights)
