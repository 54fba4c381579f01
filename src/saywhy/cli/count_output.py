"""What ``saywhy count`` prints of explained counts: classes, answers to questions, and objects."""

from collections.abc import Mapping, Sequence
from typing import Any

from saywhy.cli import screen
from saywhy.cli.explain import record


def map_record(one: Any) -> dict[str, Any]:
    """Return what JSON has of the maps."""
    return {name: value for name, value in record(one.explanation).items() if name in ("maps", "provenance")}


def print_counts(found: Sequence[Any]) -> None:
    """Print a row for each class that occurs, and each explained noun, in every image."""
    from saywhy.view.count import interval_text

    numbers = ("count", "before rounding")
    table = screen.table("image", "object", *numbers, "interval", right=numbers)
    for one in found:
        asked = {each.labels: each for each in one.explained}  # "apples" is the row of the class "apple"
        rows = [asked.pop(each.labels, each) for each in one.counts if each.count or each.labels in asked]
        rows += asked.values()
        for each in rows:
            name = one.explanation.images[0].name
            table.add_row(name, each.name, each.count, f"{each.raw:.2f}", interval_text(each))
    screen.show(table)
    for name, labels in dict.fromkeys((each.name, each.labels) for one in found for each in one.explained):
        if len(labels) > 1:
            screen.note(f"{name}: {', '.join(labels)} together")
    explained = (
        (score, each) for one in found for score, each in zip(one.explanation.scores[0], one.explained, strict=True)
    )
    if any(abs(float(score) - each.raw) > 0.05 for score, each in explained):
        screen.note("maps explain the sum of the cells; the count takes negative cells as zero")
    if all(each.interval is None for one in found for each in one.counts):
        screen.note("no interval: this network has no errors of validation images with its weights")


def answers(routes: Mapping[str, Any], one: Any) -> list[dict[str, Any]]:
    """Return the questions with their answers, and what was counted."""
    return [
        {"question": text, "answer": one[route.noun].count, "counted": list(route.labels)}
        for text, route in routes.items()
    ]


def print_answers(routes: Mapping[str, Any], found: Sequence[Any]) -> None:
    """Print a row for each question about every image."""
    if not routes:
        return
    table = screen.table("image", "question", "answer", "counted", right=("answer",))
    for one in found:
        for row in answers(routes, one):
            name = one.explanation.images[0].name
            table.add_row(name, row["question"], row["answer"], ", ".join(row["counted"]))
    screen.show(table)


def print_objects(found: Sequence[Any]) -> None:
    """Print a row for each object that was not counted once, and how many were."""
    from saywhy.view.count import object_rows, object_summary

    known = [one for one in found if one.objects is not None]
    table = screen.table("image", "object", "state", "boxes or decrease", "box", right=("boxes or decrease",))
    for one in known:
        for _, name, state, number, box in object_rows(one):
            if state != "counted":
                table.add_row(one.explanation.images[0].name, name, state, number, box)
    if table.row_count:
        screen.show(table)
    for one in known:
        screen.note(f"{one.explanation.images[0].name}: {object_summary(one)}")
