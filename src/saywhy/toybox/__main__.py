"""Draw a contact sheet: ``python -m saywhy.toybox toybox.png``."""

from pathlib import Path
from typing import Annotated

import typer

from saywhy.errors import SaywhyError
from saywhy.toybox.scenes.sheet import sheet


def main(
    out: Annotated[Path, typer.Argument(help="Path of the picture, for example toybox.png.")],
    split: Annotated[str, typer.Option(help="The split to draw from.")] = "test",
    rows: Annotated[int, typer.Option(min=1)] = 5,
    columns: Annotated[int, typer.Option(min=1)] = 8,
    size: Annotated[int, typer.Option(min=32, help="Side of each scene in pixels.")] = 128,
    start: Annotated[int, typer.Option(min=0, help="Index of the first scene.")] = 0,
) -> None:
    """Draw a contact sheet of Toybox scenes."""
    try:
        page = sheet(split, range(start, start + rows * columns), columns, size)
    except SaywhyError as error:
        raise typer.BadParameter(str(error)) from None
    page.save(out, optimize=True)
    typer.echo(f"{rows * columns} scenes of {split!r} in {out}")


if __name__ == "__main__":
    typer.run(main)
