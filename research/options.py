"""The options that the commands of benchmarks and claims share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option(help="The Markdown file to write; printed by default.")]
Share = Annotated[float, typer.Option(min=0.001, max=1, help="Share of the items and steps, for a quick run.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Runs in parallel, on a thread each.")]
Repeats = Annotated[int, typer.Option(min=1, help="Number of repeats of each measurement.")]
