"""The metadata of a request's maps: diagnostics and provenance."""

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from saywhy import diagnostics
from saywhy.diagnostics import Diagnostic, Diagnostics, Evidence
from saywhy.engine.layers import is_bypassed
from saywhy.engine.sampling import OTHER_IMAGES
from saywhy.engine.trace import Candidate
from saywhy.engine.tree import ModelInputs
from saywhy.errors import SaywhyWarning
from saywhy.explainer.batch_result import BatchResult, alike, merged_names
from saywhy.explainer.runner import Runner
from saywhy.images import SourceImage
from saywhy.methods.method import AttributionResult
from saywhy.methods.registry import find_method
from saywhy.models.inputs import Batch
from saywhy.output import OutputScale, ShownScore, shown_score

LIBRARIES = ("saywhy", "torch", "torchvision", "timm", "transformers")
"""The libraries whose versions are in the provenance."""


@dataclass(frozen=True)
class MapMetadata:
    """The maps of a request with everything their diagnostics and provenance need; batches are joined.

    Attributes:
        runner: the request.
        layers: the layers by name.
        maps: the maps by (method, layer).
        attributions: results of methods of several passes, by (method, layer).
        evidence: statistics of activations and gradients, by layer.
        scores, probabilities: [batch, target].
        scale, score, dtype: what the model returns, the kind of the scores of classes, and the type of the output.
        agreement: with ``precision="fast"``, how the copy was made and its correlation with exact maps.
    """

    runner: Runner
    layers: Mapping[str, Candidate]
    maps: Mapping[tuple[str, str], Tensor]
    attributions: Mapping[tuple[str, str], AttributionResult]
    evidence: Mapping[str, Evidence]
    scores: Tensor
    probabilities: Tensor | None
    scale: OutputScale
    score: ShownScore
    dtype: torch.dtype
    agreement: tuple[str, float] | None

    @staticmethod
    def of(runner: Runner, results: Sequence[BatchResult], agreement: tuple[str, float] | None) -> "MapMetadata":
        """Join the results of several batches."""
        results = alike(results)
        first = results[0]
        attributions = {
            key: AttributionResult.stacked([r.attributions[key] for r in results]) for key in first.attributions
        }
        probabilities = [r.probabilities for r in results]
        known = [p for p in probabilities if p is not None]
        return MapMetadata(
            runner=runner,
            layers=merged_names(results),
            maps={
                key: attributions[key].maps if key in attributions else torch.cat([r.maps[key] for r in results])
                for key in first.maps
            },
            attributions=attributions,
            evidence={name: Evidence.stacked([r.evidence[name] for r in results]) for name in first.evidence},
            scores=torch.cat([r.target_scores.scores for r in results]),
            probabilities=torch.cat(known) if len(known) == len(results) else None,
            scale=first.scale,
            score=first.score,
            dtype=first.dtype,
            agreement=agreement,
        )

    def diagnostics(self, method: str, layer: str, images: Sequence[SourceImage] = ()) -> list[list[Diagnostics]]:
        """The diagnostics [batch][target] of every map of one method at one layer, on these images."""
        objections = [diagnostics.domain_diagnostic(i.objection) if i.objection else None for i in images]
        known, evidence = find_method(method), self.evidence.get(layer)
        config = self.runner.config
        common: list[Diagnostic | None] = [diagnostics.input_diagnostic()]
        if layer in self.layers:
            found = self.layers[layer]
            common = [
                diagnostics.layout_diagnostic(found),
                diagnostics.calls_diagnostic(found),
                diagnostics.share_diagnostic(found),
            ]
        if not known.uses_gradients:
            common.append(diagnostics.class_agnostic_diagnostic())
        if self.agreement is not None:
            common.append(diagnostics.precision_diagnostic(*self.agreement, measured=known.passes == "one"))
        if known.passes == "several" and self.dtype in (torch.bfloat16, torch.float16):
            common.append(diagnostics.rounding_diagnostic(self.dtype))
        score = shown_score(self.scale, config.score, known.score)
        if score != self.score:
            common.append(diagnostics.score_diagnostic(score, self.score))
        if self.scale != "logit":
            wanted = config.score or known.score
            common.append(diagnostics.output_diagnostic(self.scale, wanted, recovered=wanted == score))
        attribution = self.attributions.get((method, layer))
        error = attribution.completeness_error if attribution is not None else None
        steps = attribution.steps if attribution is not None else None
        common.extend(attribution.diagnostics if attribution is not None else ())
        low, high = (v.tolist() for v in torch.aminmax(self.maps[method, layer].detach().flatten(2), dim=2))

        def of_map(b: int, t: int) -> Diagnostics:
            some = [
                objections[b] if objections else None,
                *common,
                # A path starts where the gradient is not zero; a vanished one at its end is a saturation diagnostic.
                diagnostics.gradient_diagnostic(evidence, b, t) if evidence is not None and error is None else None,
                diagnostics.evidence_diagnostic(
                    evidence if known.uses_gradients else None, low[b][t], high[b][t], b, t, known.shows == "evidence"
                ),
            ]
            if error is not None:
                count = None if steps is None else int(steps[b])
                some.append(diagnostics.completeness_diagnostic(float(error[b, t]), count))
            if self.probabilities is not None and not bool(self.probabilities[b, t].isnan()):
                probability = float(self.probabilities[b, t])
                some.append(diagnostics.saturation_diagnostic(probability, score, of_path=error is not None))
            return tuple(one for one in some if one is not None)

        return [[of_map(b, t) for t in range(len(row))] for b, row in enumerate(low)]

    def warn_of_zero_maps(self, targets: Sequence[Sequence[str]], stacklevel: int) -> None:
        """Warn why maps are zero everywhere, once for every cause."""
        causes: dict[str, list[str]] = {}
        for (method, layer), maps in self.maps.items():
            blank = ~maps.detach().flatten(2).any(-1)
            if not bool(blank.any()):
                continue
            uses_gradients = find_method(method).uses_gradients
            for b, t in blank.nonzero().tolist():
                if not targets[b][t]:
                    continue  # no target: past the end of a shorter caption
                cause = diagnostics.zero_cause(self.evidence.get(layer), b, t, uses_gradients=uses_gradients)
                names = causes.setdefault(cause, [])
                if targets[b][t] not in names:
                    names.append(targets[b][t])
        for cause, names in causes.items():
            shown = ", ".join(f"'{n}'" for n in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            warnings.warn(f"{shown}: {cause}.", SaywhyWarning, stacklevel=stacklevel)

    def warn_of_other_images(self, images: Sequence[SourceImage], stacklevel: int) -> None:
        """Warn once of images of another kind than those that the model was trained on."""
        foreign = [image for image in images if image.objection]
        if foreign:
            shown = foreign[0].name + (f" and {len(foreign) - 1} more" if len(foreign) > 1 else "")
            warnings.warn(f"{shown}: {foreign[0].objection}.", SaywhyWarning, stacklevel=stacklevel)

    def warn_of_bypassed_layers(self, stacklevel: int) -> None:
        """Warn where a part of the score passes round a layer that was found."""
        for name, layer in self.layers.items():
            if layer.share is not None and is_bypassed(layer):
                warnings.warn(
                    f"only {layer.share:.0%} of the score's gradient at the image passes through layer '{name}', and "
                    "no layer was found through which all of it passes: the map shows this part. A method of the image "
                    "itself ('integrated-gradients', 'occlusion') shows all of it.",
                    SaywhyWarning,
                    stacklevel=stacklevel,
                )

    def warn_of_several_images(self, stacklevel: int) -> None:
        """Warn where the score depends on another image among the arguments than the one that is explained."""
        for name, layer in self.layers.items():
            if OTHER_IMAGES in layer.sampling.values:
                said = f"layer '{name}' is computed from several images: its map shows the evidence in all of them"
            elif OTHER_IMAGES in layer.score_inputs:
                said = f"the score also depends on another image, which the map at layer '{name}' does not show"
            else:
                continue
            warnings.warn(
                f"{said}. Give axes=saywhy.Input(argument=...) to explain another argument; a method of the image "
                "itself ('integrated-gradients', 'occlusion') shows the evidence of one.",
                SaywhyWarning,
                stacklevel=stacklevel,
            )
            return

    def provenance(self, batch: Batch, targets: list[list[str]], version: int) -> dict[str, Any]:
        """Everything needed to compute the maps again.

        The digest of the weights is computed here, which takes 0.1 s for a ResNet-50. It is None if the weights have
        changed since the maps were made (``version``).
        """
        model, config = self.runner.model, self.runner.config
        return {
            "model": model.name,
            **({"given": dict(model.given)} if model.given else {}),
            **({"knows_only": model.domain.kind} if model.domain else {}),
            "weights_sha256": model.digest() if model.version() == version else None,
            "images": [source.name for source in batch.images()],
            "axes": _axes(batch, declared=model.axes.axes is not None),
            "targets": targets,
            "scores": self.scores.detach().float().cpu().tolist(),
            "score": config.score or {m.name: shown_score(self.scale, None, m.score) for m in config.methods},
            "output_scale": self.scale,
            "methods": {m.name: {**m.parameters, **config.parameters_of(m)} for m in config.methods},
            "layers": {
                name: {
                    "layout": str(layer.proof.layout) if layer.proof else "",
                    "proved": bool(layer.proof and layer.proof.holds),
                }
                for name, layer in self.layers.items()
            },
            "precision": config.precision,
            "seed": config.seed,
            "versions": {name: v for name in LIBRARIES if (v := _version(name))},
        }


def _axes(batch: Batch, *, declared: bool) -> dict[str, Any] | None:
    """The axes of the image and whether the user declared them or they were recognized; None for [batch, channel, …]
    that nobody declared.
    """
    axes = batch.inputs.axes if isinstance(batch.inputs, ModelInputs) else None
    return None if axes is None else {"names": " ".join(axes.names), "declared": declared}


@cache
def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
