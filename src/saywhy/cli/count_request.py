"""What ``saywhy count`` is asked: nouns, questions, and the states of objects whose boxes are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywhy.errors import InputError


@dataclass(frozen=True)
class CountRequest:
    """What is asked of each image.

    Attributes:
        of: nouns to count.
        questions: to answer by counting.
        boxes: the data set by which objects are missed, counted or counted twice; None for none.
    """

    of: list[str]
    questions: list[str]
    boxes: str | None

    def routes(self, labels: Sequence[str] | None) -> list[Any]:
        """Return the classes of each question.

        Raises:
            InputError: a question is not answered by counting classes of the model.
        """
        from saywhy.tasks.counting.count_questions import COUNTED, route_question

        found = [route_question(text, labels or ()) for text in self.questions]
        for text, route in zip(self.questions, found, strict=True):
            if route.bucket not in COUNTED:
                raise InputError(f"'{text}' is not answered by counting: {route.reason}.")
        return found

    def objects_of(self, files: Sequence[Path]) -> dict[Path, Any]:
        """Return the objects of each image by the name of its file, without the suffix."""
        from saywhy.datasets.load import open_dataset

        if self.boxes is None:
            return {}
        wanted, found = {file.stem: file for file in files}, {}
        data = open_dataset(self.boxes)
        for number in range(len(data)):
            located = data[number]
            file = wanted.pop(Path(located.name).stem, None)
            if file is not None:
                found[file] = located.objects
            if not wanted:
                break
        if wanted:
            some = ", ".join(f"'{file.name}'" for file in list(wanted.values())[:3])
            raise InputError(
                f"{data.name} has no boxes of {some}{' …' if len(wanted) > 3 else ''}. Images are found by their file "
                "names. Give the data set, and its split, that has them."
            )
        return found
