"""Makes the tables of README.md anew from the registries: ``python -m docs.readme``."""

from pathlib import Path

from saywhy.cli.pages import with_tables
from saywhy.io.atomic import atomic_write

README = Path(__file__).parents[1] / "README.md"

if __name__ == "__main__":
    with atomic_write(README) as temporary:
        temporary.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
