"""``saywhy score-counts``: errors of a counter on boxes, on questions, and F scores of a detector with its counts."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.count import CounterName
from saywhy.cli.explain import Device, Weights
from saywhy.errors import InputError


def score_counts(
    data: Annotated[
        str | None, typer.Argument(help="Images with boxes: voc:PATH:test, coco:PATH or toybox:SPLIT.")
    ] = None,
    model: CounterName = "toybox:counter",
    weights: Weights = None,
    device: Device = None,
    difficult: Annotated[
        str | None, typer.Option(help="'count' or 'leave-out' objects marked as difficult or as a crowd.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="A detector: its F with thresholds, with predicted and with true counts.")
    ] = None,
    detector_weights: Annotated[str | None, typer.Option(help="A weights file of the detector.")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Other images with boxes, on which the detector's thresholds are chosen.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="A question file of VQA v1, v2 or VQA-CP, or a folder of a split of COCO-QA.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="The answers of VQA to --questions.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder of the questions' images, named by their COCO ids.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Another model's answers to compare with, as a VQA results file.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The least score of a detector's box.")] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compute the errors of counts on images with boxes, or of answers to "how many?", and F scores of detection."""
    from saywhy.models import load

    if (data is None) == (questions is None):
        raise InputError("give either DATA, images with boxes, or --questions with --images.")
    if (questions is None) != (images is None) or (questions is None and (annotations or answers)):
        raise InputError("--questions and --images belong together; --annotations and --answers need them.")
    if (detector is None) != (validation is None) or (detector and questions):
        raise InputError("--detector and --validation belong together, with DATA: its thresholds are chosen there.")
    with screen.noted_warnings(), screen.Steps(1) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, device=device)
        told = _told(steps)
        if questions is not None and images is not None:
            found = _of_questions(loaded, questions, annotations, images, answers, threshold, batch_size, told)
        else:
            found = _of_boxes(
                loaded, str(data), difficult, (detector, detector_weights, validation), threshold, batch_size, told
            )
    if as_json:
        screen.say_json(_without_nan(found))
    else:
        for name, rows in found.items():
            _show(name, rows)


def _told(steps: screen.Steps) -> Callable[[int], None]:
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        steps.now(f"{done:,} images")

    return told


def _of_boxes(
    loaded: Any,
    data: str,
    difficult: str | None,
    of_detector: tuple[str | None, str | None, str | None],
    threshold: float,
    batch_size: int,
    told: Callable[[int], None],
) -> dict[str, Any]:
    """Return errors of counts, over all classes and of each, and the F scores."""
    from saywhy.datasets.load import open_dataset
    from saywhy.metrics.counting import m_relrmse, m_relrmse_nz, mrmse, mrmse_nz
    from saywhy.models import load
    from saywhy.tasks.counting.score_counts import score_counts as score
    from saywhy.tasks.counting.score_counts import score_detection

    opened = open_dataset(data)
    scored = score(
        loaded,
        opened,
        difficult=difficult,  # type: ignore[arg-type]
        batch_size=batch_size,
        threshold=threshold,
        told=told,
    )
    forms = {"mRMSE": mrmse, "m-relRMSE": m_relrmse}
    if bool(scored.true.any()):
        forms |= {"mRMSE-nz": mrmse_nz, "m-relRMSE-nz": m_relrmse_nz}
    errors = {name: error_of(scored.predicted, scored.true) for name, error_of in forms.items()}
    rows = [
        {
            "class": label,
            "objects": int(scored.true[:, number].sum()),
            "counted": int(scored.predicted[:, number].sum()),
            "RMSE": errors["mRMSE"].each[number],
            "RMSE-nz": errors["mRMSE-nz"].each[number] if "mRMSE-nz" in errors else math.nan,
        }
        for number, label in enumerate(scored.labels)
    ]
    found: dict[str, Any] = {
        "errors": [{"images": len(scored.true), **{name: error.value for name, error in errors.items()}}],
        "classes": rows,
    }
    name, weights, validation = of_detector
    if name is not None and validation is not None:
        known = open_dataset(validation)
        scores = score_detection(load(name, weights), scored, opened, known, difficult=difficult, told=told)  # type: ignore[arg-type]
        found["detection"] = [
            {"boxes kept by": kind, "boxes": one.boxes, "precision": one.precision, "recall": one.recall, "F": one.f}
            for kind, one in scores.items()
        ]
    return found


def _of_questions(
    loaded: Any,
    questions: Path,
    annotations: Path | None,
    folder: Path,
    answers: Path | None,
    threshold: float,
    batch_size: int,
    told: Callable[[int], None],
) -> dict[str, Any]:
    """Return the errors of answers by bucket; questions whose image is not in the folder are left out, with a note."""
    from saywhy.images import images_in
    from saywhy.tasks.counting.count_questions import COUNTED, images_by_id, route_question, score_count_questions
    from saywhy.tasks.counting.score_counts import predict_images
    from saywhy.tasks.vqa.vqa_dataset import read_results

    asked = _asked(questions, annotations)
    files, labels = images_by_id(images_in([folder])), loaded.labels or ()
    kept = [one for one in asked if one.image in files]
    if not kept:
        raise InputError(
            f"'{folder}' has none of the images of the {len(asked):,} questions that ask for a count. Images are found "
            "by the number at the end of their names, the COCO id."
        )
    if len(kept) < len(asked):
        screen.note(f"{len(asked) - len(kept):,} of {len(asked):,} questions left out: their images are not there")
    counted = [one.image for one in kept if route_question(one.text, labels).bucket in COUNTED]
    wanted = list(dict.fromkeys(counted))
    counts: dict[Any, Any] = {}
    if wanted:
        paths = [files[number] for number in wanted]
        _, rows = predict_images(loaded, paths, batch_size=batch_size, threshold=threshold, told=told)
        counts = dict(zip(wanted, rows, strict=True))
    other = None if answers is None else read_results(answers)
    scores = score_count_questions(kept, counts, labels, other)  # type: ignore[arg-type]
    columns = ("questions", "rmse", "exact", *(("other_rmse", "other_exact", "rmse_on_other") if other else ()))
    return {
        "questions": [{"bucket": name, **{c: getattr(one, c) for c in columns}} for name, one in scores.items()],
    }


def _asked(questions: Path, annotations: Path | None) -> list[Any]:
    """Return the questions whose answer is a number, of VQA or COCO-QA."""
    from saywhy.tasks.counting.coco_qa import read_coco_qa_counts
    from saywhy.tasks.counting.count_questions import vqa_count_questions
    from saywhy.tasks.vqa.vqa_dataset import pair_annotations, read_annotations, read_questions

    if questions.is_dir():
        if annotations is not None:
            raise InputError("COCO-QA has its answers in its folder: leave --annotations out.")
        return read_coco_qa_counts(questions)
    if annotations is None:
        raise InputError("the questions of VQA are scored against people's answers: give --annotations FILE.")
    return vqa_count_questions(pair_annotations(read_questions(questions), read_annotations(annotations)))


def _show(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print one table; a number that does not exist is empty."""
    heads = [head.replace("_", " ") for head in rows[0]]
    numbers = [h for h, v in zip(heads, rows[0].values(), strict=True) if not isinstance(v, str)]
    table = screen.table(*heads, right=numbers)
    shown = [row for row in rows if name != "classes" or row["objects"] or row["counted"]]
    for row in shown:
        table.add_row(*(_text(value) for value in row.values()))
    if shown:
        screen.show(table)


def _without_nan(found: dict[str, Any]) -> dict[str, Any]:
    """Return the results with None in place of NaN, which JSON does not have."""
    return {
        name: [{key: None if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()} for row in rows]
        for name, rows in found.items()
    }


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.3f}"
