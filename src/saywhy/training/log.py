"""The CSV log of a training run."""

from collections.abc import Sequence
from pathlib import Path

from saywhy.io.atomic import atomic_write

HEADING = "step,rate,loss"


class Log:
    """A CSV file of step, learning rate and mean loss; the lines of a stopped run are kept.

    Args:
        path: the file.
        done: the number of finished steps; lines of later steps, which will be repeated, are removed.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "run.csv"
    >>> Log(file, 0).add(2, 0.1, [3.0, 1.0])
    >>> Log(file, 2).add(4, 0.05, [1.0, 0.0])
    >>> file.read_text().split()
    ['step,rate,loss', '2,0.1,2', '4,0.05,0.5']
    """

    def __init__(self, path: Path, done: int) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines()[1:] if done and path.exists() else []
        kept = [line for line in lines if int(line.partition(",")[0]) <= done]
        with atomic_write(path) as temporary:
            temporary.write_text("\n".join([HEADING, *kept]) + "\n", encoding="utf-8")

    def add(self, step: int, rate: float, losses: Sequence[float]) -> None:
        """Append a line for the steps since the last line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{step},{rate:.6g},{sum(losses) / len(losses):.6g}\n")
