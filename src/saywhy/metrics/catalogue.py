"""All metrics: name, function, title, paper, equation, direction, range, and what they look at."""

from math import inf

from saywhy.metrics.boxes import box_iou
from saywhy.metrics.complexity import complexity, sparseness
from saywhy.metrics.faithfulness import (
    average_drop,
    faithfulness_correlation,
    increase_in_confidence,
    infidelity,
    occlusion_correlation,
)
from saywhy.metrics.localization import energy_pointing, mask_iou, relevance_rank
from saywhy.metrics.metric import Metric
from saywhy.metrics.pointing import pointing_game
from saywhy.metrics.removal import comprehensiveness, deletion, insertion, road, sufficiency
from saywhy.metrics.robustness import input_shift_variance, max_sensitivity, stability
from saywhy.metrics.sanity import (
    completeness_gap,
    data_randomisation,
    parameter_randomisation,
    target_randomisation,
)

_ALL = (
    Metric(
        "pointing-game", pointing_game, "Pointing game", "Zhang et al., 2016",
        "1[argmax M within 15 pixels of the thing]", "higher", 0.0, 1.0, "masks",
    ),
    Metric(
        "energy-pointing", energy_pointing, "Energy-based pointing game", "Wang et al., 2020",
        "Σ_thing M⁺ / Σ M⁺", "higher", 0.0, 1.0, "masks",
    ),
    Metric(
        "relevance-rank", relevance_rank, "Relevance rank accuracy", "Arras et al., 2022",
        "share of the K highest pixels in a thing of K pixels", "higher", 0.0, 1.0, "masks",
    ),
    Metric(
        "mask-iou", mask_iou, "Mask IoU", "ours",
        "IoU(M ≥ 0.15 max M, thing)", "higher", 0.0, 1.0, "masks",
    ),
    Metric(
        "box-iou", box_iou, "Box IoU", "Selvaraju et al., 2017",
        "max IoU(box of the largest part of M ≥ 0.15 max M, a box of the thing)", "higher", 0.0, 1.0, "boxes",
    ),
    Metric(
        "deletion", deletion, "Deletion", "Petsiuk et al., 2018",
        "∫ y(x without its highest s) ds", "lower", 0.0, 1.0, "network",
    ),
    Metric(
        "insertion", insertion, "Insertion", "Petsiuk et al., 2018",
        "∫ y(the highest s of x) ds", "higher", 0.0, 1.0, "network",
    ),
    Metric(
        "comprehensiveness", comprehensiveness, "Comprehensiveness", "DeYoung et al., 2020",
        "mean y(x) − y(x without its highest s)", "higher", -1.0, 1.0, "network",
    ),
    Metric(
        "sufficiency", sufficiency, "Sufficiency", "DeYoung et al., 2020",
        "mean y(x) − y(the highest s of x)", "lower", -1.0, 1.0, "network",
    ),
    Metric(
        "road", road, "ROAD", "Rong et al., 2022",
        "mean y(x without its lowest s) − y(x without its highest s), imputed", "higher", -1.0, 1.0, "network",
    ),
    Metric(
        "average-drop", average_drop, "Average Drop", "Chattopadhyay et al., 2018",
        "max(0, y(x) − y(M x)) / y(x)", "lower", 0.0, 1.0, "network",
    ),
    Metric(
        "increase-in-confidence", increase_in_confidence, "Increase in Confidence", "Chattopadhyay et al., 2018",
        "1[y(x) < y(M x)]", "higher", 0.0, 1.0, "network",
    ),
    Metric(
        "faithfulness-correlation", faithfulness_correlation, "Faithfulness correlation", "Bhatt et al., 2020",
        "corr_S(Σ_S M, y(x) − y(x without S))", "higher", -1.0, 1.0, "probes", "logit",
    ),
    Metric(
        "infidelity", infidelity, "Infidelity", "Yeh et al., 2019",
        "min_β E(β IᵀM − Δ)² / E Δ²", "lower", 0.0, 1.0, "probes", "logit",
    ),
    Metric(
        "occlusion-correlation", occlusion_correlation, "Rank correlation with occlusion", "Selvaraju et al., 2017",
        "Spearman(M, occlusion), 14 × 14", "higher", -1.0, 1.0, "network", "logit",
    ),
    Metric(
        "max-sensitivity", max_sensitivity, "Max-sensitivity", "Yeh et al., 2019",
        "max_δ ‖M(x + δ) − M(x)‖ / ‖M(x)‖", "lower", 0.0, inf, "method",
    ),
    Metric(
        "stability", stability, "Stability", "ours",
        "mean_δ Spearman(M(x + δ), M(x))", "higher", -1.0, 1.0, "method",
    ),
    Metric(
        "input-shift-variance", input_shift_variance, "Input invariance", "Kindermans et al., 2019",
        "‖M_f'(x + m) − M_f(x)‖ / ‖M_f(x)‖, f'(x) = f(x − m)", "lower", 0.0, inf, "method",
    ),
    Metric(
        "parameter-randomisation", parameter_randomisation, "Cascading parameter randomisation", "Adebayo et al., 2018",
        "mean_k abs Spearman(M_f, M_f_k)", "lower", 0.0, 1.0, "method",
    ),
    Metric(
        "data-randomisation", data_randomisation, "Data randomisation", "Adebayo et al., 2018",
        "abs Spearman(M_f, M of a network trained on random labels)", "lower", 0.0, 1.0, "method",
    ),
    Metric(
        "target-randomisation", target_randomisation, "Random logit", "Sixt et al., 2020",
        "Spearman(M, M of the next best class)", "lower", -1.0, 1.0, "method",
    ),
    Metric(
        "completeness-gap", completeness_gap, "Completeness", "Sundararajan et al., 2017",
        "abs(Σ parts − (y(x) − y(x₀))) / abs(y(x) − y(x₀))", "lower", 0.0, inf, "method",
    ),
    Metric(
        "sparseness", sparseness, "Sparseness", "Chalasani et al., 2020",
        "Gini(abs M)", "higher", 0.0, 1.0, "maps",
    ),
    Metric(
        "complexity", complexity, "Complexity", "Bhatt et al., 2020",
        "entropy(abs M / Σ abs M)", "lower", 0.0, inf, "maps",
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name."""
