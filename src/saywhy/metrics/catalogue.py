"""All metrics of maps: name, function, title, paper, equation, direction, range, and what they look at.

And, beside them, what measures something else (`DATASET_METRICS`).
"""

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
from saywhy.metrics.metric import DatasetMetric, Metric
from saywhy.metrics.pointing import pointing_game
from saywhy.metrics.removal import comprehensiveness, deletion, insertion, road, sufficiency
from saywhy.metrics.robustness import input_shift_variance, max_sensitivity, stability
from saywhy.metrics.sanity import (
    completeness_error,
    data_randomization,
    parameter_randomization,
    random_logit,
)

_SCORED = "in units of the score"

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
        "∫ y(x without its highest s) ds", "lower", 0.0, 1.0, "network", otherwise=_SCORED,
    ),
    Metric(
        "insertion", insertion, "Insertion", "Petsiuk et al., 2018",
        "∫ y(the highest s of x) ds", "higher", 0.0, 1.0, "network", otherwise=_SCORED,
    ),
    Metric(
        "comprehensiveness", comprehensiveness, "Comprehensiveness", "DeYoung et al., 2020",
        "mean y(x) − y(x without its highest s)", "higher", -1.0, 1.0, "network", otherwise=_SCORED,
    ),
    Metric(
        "sufficiency", sufficiency, "Sufficiency", "DeYoung et al., 2020",
        "mean y(x) − y(the highest s of x)", "lower", -1.0, 1.0, "network", otherwise=_SCORED,
    ),
    Metric(
        "road", road, "ROAD", "Rong et al., 2022",
        "mean y(x without its lowest s) − y(x without its highest s), imputed", "higher", -1.0, 1.0, "network",
        otherwise=_SCORED,
    ),
    Metric(
        "average-drop", average_drop, "Average Drop", "Chattopadhyay et al., 2018",
        "max(0, y(x) − y(M x)) / y(x)", "lower", 0.0, 1.0, "network", otherwise="0 to inf",
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
        "parameter-randomization", parameter_randomization, "Cascading parameter randomisation", "Adebayo et al., 2018",
        "mean_k abs Spearman(M_f, M_f_k)", "lower", 0.0, 1.0, "method",
    ),
    Metric(
        "data-randomization", data_randomization, "Data randomisation", "Adebayo et al., 2018",
        "abs Spearman(M_f, M of a network trained on random labels)", "lower", 0.0, 1.0, "method",
    ),
    Metric(
        "random-logit", random_logit, "Random logit", "Sixt et al., 2020",
        "Spearman(M, M of the next best class)", "lower", -1.0, 1.0, "method",
    ),
    Metric(
        "completeness-error", completeness_error, "Completeness", "Sundararajan et al., 2017",
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

DATASET_METRICS = (
    DatasetMetric(
        "boxes.localization_errors", "top-1 and top-5 error: the class is wrong, or its box has an IoU below 0.5",
        "lower", "0 to 1", "Russakovsky et al., 2015",
    ),
    DatasetMetric(
        "boxes.best_box_ious", "IoU of the best box, at each of several thresholds", "higher", "0 to 1",
        "Choe et al., 2020",
    ),
    DatasetMetric(
        "boxes.max_box_acc", "MaxBoxAcc: share of boxes that are right, at the threshold that suits a data set best",
        "higher", "0 to 1", "Choe et al., 2020",
    ),
    DatasetMetric(
        "pointing.pointing_accuracy", "hits of the pointing game, the mean over classes and over all maps",
        "higher", "0 to 1", "Zhang et al., 2016",
    ),
    DatasetMetric(
        "pointing.pointing_with_rejection",
        "pointing game in which a map may reject its class (from a threshold: `pointing.best_rejection_threshold`)",
        "higher", "0 to 1", "Selvaraju et al., 2017",
    ),
    DatasetMetric(
        "pointing.grid_pointing", "share of the evidence in its own image of a mosaic; chance is 1 / images",
        "higher", "0 to 1", "Böhle et al., 2021",
    ),
    DatasetMetric(
        "localization.seeds", "pixels from which weakly supervised segmentation grows, as labels", "none",
        "-1 (unlabelled), 0 (background), 1 … targets", "Kolesnikov and Lampert, 2016",
    ),
    DatasetMetric(
        "agreement.ssim", "structural similarity of two maps", "higher is more alike", "-1 to 1", "Wang et al., 2004",
    ),
    DatasetMetric(
        "agreement.earth_movers_distance", "how far the evidence of one map has to be carried to be that of another",
        "lower is more alike", "0 to √2 sides of the image", "Rubner et al., 2000",
    ),
    DatasetMetric(
        "agreement.agreement_among_methods", "rank correlation of the maps of every two methods",
        "higher is more alike", "-1 to 1", "ours",
    ),
    DatasetMetric(
        "human_attention.rank_correlation",
        "Spearman's rank correlation of two maps", "higher is more alike", "-1 to 1",
        "common",
    ),
    DatasetMetric(
        "human_attention.agreement_with_people",
        "rank correlation of maps with where people looked", "higher", "-1 to 1",
        "Das et al., 2016",
    ),
    DatasetMetric(
        "human_attention.agreement_among_people", "the same of people with one another, to compare it with", "none",
        "-1 to 1", "Das et al., 2016",
    ),
    DatasetMetric(
        "sanity.cascade", "likeness of a map to itself, stage by stage of a cascading randomisation", "lower",
        "0 to 1", "Adebayo et al., 2018",
    ),
    DatasetMetric(
        "tasks.vqa.accuracy.vqa_accuracy",
        "accuracy of answers to questions, by kind of question too", "higher", "0 to 1",
        "Antol et al., 2015",
    ),
    DatasetMetric(
        "calibration.calibration_error", "distance between confidence and accuracy, over bins of equal mass", "lower",
        "0 to 1", "Nguyen and O'Connor, 2015",
    ),
    DatasetMetric(
        "calibration.reliability", "the reliability diagram: confidence and accuracy of every bin", "none", "0 to 1",
        "Nguyen and O'Connor, 2015",
    ),
    DatasetMetric(
        "calibration.auroc", "how likely a wrong answer is more uncertain than a right one; chance is 0.5", "higher",
        "0 to 1", "common",
    ),
    DatasetMetric(
        "calibration.risk_coverage", "share of wrong answers among the most certain ones; `.area` is AURC", "lower",
        "0 to 1", "Geifman and El-Yaniv, 2017",
    ),
    DatasetMetric(
        "calibration.error_correlation", "rank correlation of uncertainty with how wrong an answer is", "higher",
        "-1 to 1", "Patro et al., 2019",
    ),
    DatasetMetric(
        "diversity.distinct", "distinct-n: how many different n-grams, divided by the number of words", "higher",
        "0 to 1", "Li et al., 2016",
    ),
    DatasetMetric(
        "diversity.repeated", "share of sentences that say the same as an earlier one", "lower", "0 to 1", "ours",
    ),
    DatasetMetric(
        "diversity.similarity", "how like each other the sentences of an image are (BLEU over pairs)", "lower",
        "0 to 1", "ours",
    ),
    DatasetMetric(
        "diversity.oracle", "Oracle@k: quality (BLEU) of the best of k sentences", "higher", "0 to 1", "common",
    ),
    DatasetMetric(
        "diversity.bleu", "BLEU-4 of one sentence", "higher", "0 to 1", "Papineni et al., 2002",
    ),
    DatasetMetric(
        "diversity.map_distance", "how differently several maps of an image look: 1 less their rank correlation",
        "higher is more different", "0 to 2", "ours",
    ),
)  # fmt: skip
"""What judges data sets, pairs of maps, answers and sentences, and so has no place in `METRICS`."""
