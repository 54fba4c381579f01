"""Bottom-up and top-down attention (Anderson et al., 2018), number by number, in float64.

Weights are arrays by their names: ``weight`` of a weight-normalised layer is already ``g V / ||V||``.
"""

import math
from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    weight = weights[f"{name}.weight"]
    out = np.zeros(len(weight))
    for i in range(len(weight)):
        out[i] = (
            sum(float(weight[i, j]) * float(x[j]) for j in range(len(x)))
            + weights.get(f"{name}.bias", np.zeros(len(weight)))[i]
        )
    return out


def nonlinear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return np.array([max(0.0, value) for value in linear(x, weights, f"{name}.0")])


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(one - max(logits)) for one in logits)
    return [math.exp(one - max(logits)) / total for one in logits]


def gates(x: np.ndarray, h: np.ndarray, weights: Weights, name: str, cell: str) -> tuple[np.ndarray, np.ndarray]:
    """W x + b and U h + c of all gates, one after the other."""
    of_input = {"a.weight": weights[f"{name}.weight_ih{cell}"], "a.bias": weights[f"{name}.bias_ih{cell}"]}
    of_state = {"a.weight": weights[f"{name}.weight_hh{cell}"], "a.bias": weights[f"{name}.bias_hh{cell}"]}
    return linear(x, of_input, "a"), linear(h, of_state, "a")


def gru(words: list[np.ndarray], weights: Weights, name: str) -> np.ndarray:
    """Cho et al., 2014, with the reset gate after the matrix product, as in torch."""
    size = weights[f"{name}.weight_hh_l0"].shape[1]
    h = np.zeros(size)
    for x in words:
        a, b = gates(x, h, weights, name, "_l0")
        new = np.zeros(size)
        for i in range(size):
            reset, update = sigmoid(a[i] + b[i]), sigmoid(a[size + i] + b[size + i])
            candidate = math.tanh(a[2 * size + i] + reset * b[2 * size + i])
            new[i] = (1 - update) * candidate + update * h[i]
        h = new
    return h


def lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray, weights: Weights, name: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = gates(x, h, weights, name, "")
    size = len(h)
    new_h, new_c = np.zeros(size), np.zeros(size)
    for i in range(size):
        into, forget, cell, out = (a[k * size + i] + b[k * size + i] for k in range(4))
        new_c[i] = sigmoid(forget) * c[i] + sigmoid(into) * math.tanh(cell)
        new_h[i] = sigmoid(out) * math.tanh(new_c[i])
    return new_h, new_c


def up_down_vqa(
    regions: np.ndarray, question: list[int], weights: Weights, heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """The logits, and the attention [head, region]; ``regions`` [region, channel] without padding."""
    q = gru([weights["embedding.weight"][word] for word in question], weights, "gru")
    attention = np.zeros((heads, len(regions)))
    pooled = np.zeros(regions.shape[1])
    for h in range(heads):
        name = f"attention_heads.{h}"
        of_question = nonlinear(q, weights, f"{name}.question")
        logits = []
        for v in regions:
            product = nonlinear(v, weights, f"{name}.image") * of_question
            logits.append(float(linear(nonlinear(product, weights, f"{name}.joint"), weights, f"{name}.logit")[0]))
        attention[h] = softmax(logits)
        for r, v in enumerate(regions):
            pooled += attention[h, r] * v
    product = nonlinear(pooled, weights, "image_projection") * nonlinear(q, weights, "question_projection")
    return linear(nonlinear(product, weights, "answer.0"), weights, "answer.1"), attention


def top_down_captioner(
    regions: np.ndarray, caption: list[int], weights: Weights, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """The logits [turn, word], and the attention [turn, region]; ``regions`` [region, channel] without padding."""
    size = weights["attention_lstm.weight_hh"].shape[1]
    h1, c1, h2, c2 = (np.zeros(size) for _ in range(4))
    mean = sum(regions) / len(regions)
    logits, attentions = [], []
    for word in [start, *caption]:
        h1, c1 = lstm(np.concatenate([h2, mean, weights["embedding.weight"][word]]), h1, c1, weights, "attention_lstm")
        scores = []
        for v in regions:
            both = linear(v, weights, "feature_projection") + linear(h1, weights, "state_projection")
            scores.append(float(linear(np.tanh(both), weights, "attention_logit")[0]))
        attention = softmax(scores)
        attended = sum(a * v for a, v in zip(attention, regions, strict=True))
        h2, c2 = lstm(np.concatenate([attended, h1]), h2, c2, weights, "language_lstm")
        logits.append(linear(h2, weights, "word"))
        attentions.append(attention)
    return np.array(logits), np.array(attentions)


def answer_loss(logits: np.ndarray, scores: np.ndarray) -> float:
    """Binary cross entropy, summed over answers, mean over the batch."""
    total = 0.0
    for y, s in zip(logits.ravel(), scores.ravel(), strict=True):
        p = sigmoid(float(y))
        total -= float(s) * math.log(p) + (1 - float(s)) * math.log(1 - p)
    return total / len(logits)


def word_importance(
    regions: np.ndarray, caption: list[int], place: int, weights: Weights, start: int, step: float = 1e-4
) -> list[float]:
    """Sum over channels of the derivative of a word's logit by each region, by central differences."""
    found = []
    for r in range(len(regions)):
        moved = [regions.copy() for _ in range(2)]
        moved[0][r] += step
        moved[1][r] -= step
        high, low = (top_down_captioner(v, caption, weights, start)[0][place][caption[place]] for v in moved)
        found.append(float(high - low) / (2 * step))
    return found
