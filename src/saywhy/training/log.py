"""The CSV log of a training run."""

from collections.abc import Sequence
from pathlib import Path

from saywhy.errors import WeightsError
from saywhy.io.atomic import append, atomic_write
from saywhy.validation import index_in

HEADING = "step,rate,loss"


class Log:
    """A CSV file of step, learning rate and mean loss; the lines of a stopped run are kept.

    Args:
        path: the file.
        done: the number of finished steps; lines of later steps, which will be repeated, are removed.

    Raises:
        WeightsError: the file holds a line that is none of a log.
        WriteError: the disk is full, or the file cannot be written.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "run.csv"
    >>> Log(file, 0).add(2, 0.1, [3.0, 1.0])
    >>> Log(file, 2).add(4, 0.05, [1.0, 0.0])
    >>> file.read_text().split()
    ['step,rate,loss', '2,0.1,2', '4,0.05,0.5']
    """

    def __init__(self, path: Path, done: int) -> None:
        self.path = path
        kept = _lines(path, done) if done and path.exists() else []
        with atomic_write(path) as temporary:
            temporary.write_text("\n".join([HEADING, *kept]) + "\n", encoding="utf-8")

    def add(self, step: int, rate: float, losses: Sequence[float]) -> None:
        """Append a line for the steps since the last line."""
        append(self.path, f"{step},{rate:.6g},{sum(losses) / len(losses):.6g}\n")


def _lines(path: Path, done: int) -> list[str]:
    """Return the lines up to a step."""
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()[1:]
    steps = [index_in(line.partition(",")[0]) for line in lines]
    wrong = next((number for number, step in enumerate(steps, 2) if step is None), None)
    if wrong is not None:
        raise WeightsError(f"'{path}', line {wrong}, is damaged. Remove the line, or the whole file.")
    return [line for line, step in zip(lines, steps, strict=True) if step is not None and step <= done]
