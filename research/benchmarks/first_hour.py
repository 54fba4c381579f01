"""A person's first hour: three users with an environment that is made anew, and the time of each of their steps.

    python -m research.benchmarks.first_hour --out docs/benchmarks-first-hour.md
    python -m research.benchmarks.first_hour --python .venv/bin/python     # in an environment that is there

The engineer has a ResNet-18 that was fine-tuned to two classes, as a checkpoint, and a photograph. The data scientist
works in a notebook. The manager is sent the page, and reads the verdict in a browser (chromium; left out where there is
none). What goes wrong ends the script: a step counts only if what it promises is there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torchvision.models import resnet18

from research.benchmarks.cost import machine
from research.claims.measure import table
from research.options import Out
from saywhy.datasets.registry import READERS
from saywhy.io.atomic import atomic_write

CONSOLE = Console(stderr=True)
CHECKOUT = Path(__file__).parents[2]
EXPLAIN = (
    "saywhy explain photo.jpg --model torchvision:resnet18 --weights two.pth --labels classes.txt --check -o why.html"
)
CELLS = {
    'model = saywhy.load("torchvision:resnet18", weights="two.pth", labels=["cat", "dog"])': "text/plain",
    'e = saywhy.explain(model, "photo.jpg", target=["cat", "dog"], method=["gradcam", "layercam"])': "text/html",
    "trust = saywhy.check(e)": "text/html",
}
"""What the data scientist writes, and the kind of output that the cell shows."""

MOST_COMMANDS, MOST_SECONDS, MOST_BYTES = 3, 60, 500_000
"""Goals: commands and seconds from the installation to the first explanation, and bytes of a notebook cell."""


class StepFailed(Exception):
    """A step did not do what it promises."""


@dataclass(frozen=True)
class Step:
    """A step of a user.

    Attributes:
        user: who.
        what: they do.
        seconds: it took.
        found: what is there then.
    """

    user: str
    what: str
    seconds: float
    found: str


def write_files(folder: Path) -> None:
    """Write what the users have: a checkpoint of two classes, the names of the classes, and an image."""
    torch.manual_seed(0)
    torch.save(resnet18(num_classes=2).state_dict(), folder / "two.pth")
    (folder / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    READERS.find("toybox").function("test", size=640)[75].open().convert("RGB").save(folder / "photo.jpg", quality=92)


@contextmanager
def environment(folder: Path, steps: list[Step]) -> Iterator[Path]:
    """Make an environment with the package and the parts of Jupyter; yield its interpreter."""
    where = folder / "environment"
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", where], check=True)
    made = time.perf_counter()
    steps.append(Step("everybody", "`python -m venv`", made - begin, "an empty environment"))
    quiet: list[str | Path] = [
        where / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*quiet, CHECKOUT], check=True)
    installed = time.perf_counter()
    steps.append(Step("everybody", "`pip install .`", installed - made, "torch and torchvision with it"))
    subprocess.run([*quiet, "nbclient", "ipykernel"], check=True)
    yield where / "bin" / "python"
    shutil.rmtree(where)


def engineer(python: Path, folder: Path) -> Step:
    """One command: an explanation of the own model, checked, on a page."""
    seconds, printed = _timed([python.parent / "saywhy", *EXPLAIN.split()[1:]], folder)
    verdicts = re.findall(r'"summary":\s*"([^"]+)"', (folder / "why.html").read_text(encoding="utf-8"))
    _expect(len(verdicts) > 0, "the page has no verdict", printed)
    return Step("engineer", f"`{EXPLAIN}`", seconds, f"a page; maps with a verdict: {len(verdicts)}")


def scientist(python: Path, folder: Path) -> list[Step]:
    """The same in a notebook, cell by cell."""
    import nbformat

    sources = [f"import saywhy\n{line}\n{line.partition(' ')[0]}" for line in CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "first.ipynb")
    seconds, printed = _timed([python, "-m", "jupyter", "execute", "--inplace", "first.ipynb"], folder)
    done = nbformat.read(folder / "first.ipynb", as_version=4)
    steps = [Step("data scientist", "a notebook of three cells, its kernel with it", seconds, "three outputs")]
    for (line, kind), cell in zip(CELLS.items(), done.cells, strict=True):
        data = next((output.data for output in cell.outputs if output.output_type == "execute_result"), {})
        _expect(kind in data, f"the cell `{line}` shows no {kind}", printed)
        size = len(json.dumps(data))
        _expect(size <= MOST_BYTES, f"the cell `{line}` has {size:,} bytes", printed)
        begin, end = (
            datetime.fromisoformat(cell.metadata.execution[f"iopub.status.{what}"]) for what in ("busy", "idle")
        )
        found = f"an output of {size / 1000:,.0f} kB"
        steps.append(Step("data scientist", f"`{line}`", (end - begin).total_seconds(), found))
    return steps


def manager(folder: Path) -> Step | None:
    """The page in a browser, until its map is drawn and its verdict read; None without a browser."""
    program, helper = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and helper):
        return None
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1280,900", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(helper)) as browser:
        begin = time.perf_counter()
        browser.get((folder / "why.html").as_uri())
        drawn = "const c = document.querySelector('figure canvas'); return Boolean(c && c.width > 100)"
        WebDriverWait(browser, MOST_SECONDS).until(lambda page: page.execute_script(drawn))
        seconds = time.perf_counter() - begin
        verdict = browser.execute_script("return document.querySelector('.trust p')?.textContent ?? ''")
    _expect(verdict.startswith(("Passed", "Failed")), "the page says no verdict", verdict)
    return Step("manager", "opens the page", seconds, f"the verdict: “{verdict.split('.')[0]}.”")


def _timed(command: list[str | Path], folder: Path) -> tuple[float, str]:
    """Run a command in the folder as a user would; return its seconds and what it printed."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SAYWHY_REAL")}
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    printed = done.stdout + done.stderr
    _expect(done.returncode == 0, f"{Path(command[0]).name} ended with status {done.returncode}", printed)
    return seconds, printed


def _expect(holds: bool, otherwise: str, printed: str) -> None:
    if not holds:
        raise StepFailed(f"{otherwise}:\n{printed[-2000:]}")


def play(python: Path, folder: Path) -> list[Step]:
    """Play the three users in a folder, with an environment that is there."""
    write_files(folder)
    steps = [engineer(python, folder)]
    CONSOLE.print(f"engineer: {steps[-1].seconds:.1f} s")
    steps += scientist(python, folder)
    CONSOLE.print(f"data scientist: {steps[1].seconds:.1f} s")
    reading = manager(folder)
    if reading is None:
        CONSOLE.print("manager: left out, there is no chromium with chromedriver")
        return steps
    CONSOLE.print(f"manager: {reading.seconds:.1f} s")
    return [*steps, reading]


def page(steps: list[Step]) -> str:
    """Return the page as Markdown."""
    first = next(step.seconds for step in steps if step.user == "engineer")
    reached = "reached" if first <= MOST_SECONDS else "not reached"
    rows = [[step.user, step.what, f"{step.seconds:.1f} s", step.found] for step in steps]
    return "\n".join(
        [
            "# The first hour",
            "",
            f"Made by `python -m research.benchmarks.first_hour` on {machine()}.",
            "The engineer has a ResNet-18 with two classes as a checkpoint (random weights), and an image; the data",
            "scientist has the same in a notebook; the manager is sent the page. Each step runs once, and counts only",
            "if what it promises is there.",
            "",
            f"Goal: from the installation to the first explanation of one's own model at most {MOST_COMMANDS} commands",
            f"and {MOST_SECONDS} s: {reached} with 1 command and {first:.1f} s, the seven checks of its maps included.",
            "",
            table(["user", "step", "time", "what is there then"], rows),
            "",
        ]
    )


def main(
    python: Annotated[Path | None, typer.Option(help="Use the environment of this interpreter.")] = None,
    out: Out = None,
) -> None:
    """Play the first hour of three users."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if python is not None:
            steps = play(python.absolute(), folder)
        else:
            steps = []
            with environment(folder, steps) as own:
                steps += play(own, folder)
        text = page(steps)
    print(text)
    if out is not None:
        with atomic_write(out) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
