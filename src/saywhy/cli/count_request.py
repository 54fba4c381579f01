"""What ``saywhy count`` is asked: nouns, questions, and the states of objects whose boxes are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywhy.cli import screen
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

    def routes(self, labels: Sequence[str] | None) -> dict[str, Any]:
        """Return the classes of each question that is answered by counting classes of the model; note the others.

        Raises:
            InputError: no question is.
        """
        from saywhy.tasks.counting.count_questions import COUNTED, route_question

        found = {text: route_question(text, labels or ()) for text in self.questions}
        counted = {text: route for text, route in found.items() if route.bucket in COUNTED}
        reasons = [
            f"'{text}' is not answered by counting: {route.reason}"
            for text, route in found.items()
            if text not in counted
        ]
        if reasons and not counted:
            raise InputError(f"{'; '.join(reasons)}.")
        for reason in reasons:
            screen.note(reason)
        return counted

    def objects_of(self, files: Sequence[Path]) -> dict[Path, Any]:
        """Return the objects of each image, but for those marked as difficult or as a crowd, which are no single ones.

        The image is found in the data set by the name of its file, without the suffix.

        Raises:
            InputError: two images have the same name, the data set lacks one, or has it in another size.
        """
        from saywhy.datasets.load import open_dataset

        if self.boxes is None:
            return {}
        wanted: dict[str, Path] = {}
        for given in files:
            if given.stem in wanted:
                raise InputError(
                    f"'{wanted[given.stem]}' and '{given}' have the same name, by which their boxes are found. Count "
                    "them one by one."
                )
            wanted[given.stem] = given
        found: dict[Path, Any] = {}
        data = open_dataset(self.boxes)
        for number in range(len(data)):
            located = data[number]
            file = wanted.pop(Path(located.name).stem, None)
            if file is not None:
                _check_size(file, located, data.name)
                found[file] = [one for one in located.objects if not one.difficult]
                if left := len(located.objects) - len(found[file]):
                    screen.note(
                        f"{file.name}: {left} object{'s' * (left > 1)} marked as difficult or as a crowd "
                        f"{'are' if left > 1 else 'is'} left out"
                    )
            if not wanted:
                break
        if wanted:
            some = ", ".join(f"'{file.name}'" for file in list(wanted.values())[:3])
            raise InputError(
                f"{data.name} has no boxes of {some}{' …' if len(wanted) > 3 else ''}. Images are found by their file "
                "names. Give the data set, and its split, that has them."
            )
        return found


def _check_size(file: Path, located: Any, data: str) -> None:
    """Refuse boxes of an image of another size."""
    from saywhy.images import read_image

    given, known = read_image(file).size, located.open().size
    if given != known:
        raise InputError(
            f"'{file}' has {given[0]} × {given[1]} pixels, and the image '{located.name}' of {data} has "
            f"{known[0]} × {known[1]}: its boxes do not fit. Give the image as it is in the data set."
        )
