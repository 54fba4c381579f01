"""Hooks of the site: a folder for the examples before the build, and no weights from the network.

The examples of the pages run in one process, in out/site-examples, where :mod:`docs.examples` has put their files.
"""

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_pre_build(config: Any) -> None:
    """Draw the files of the examples, and change to their folder."""
    sys.path.insert(0, str(ROOT))
    from docs.examples import prepare

    folder = ROOT / "out" / "site-examples"
    prepare(folder)
    os.environ.update(COLUMNS="88", NO_COLOR="1", TERM="dumb", TORCH_HOME=str(folder / "torch"))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.chdir(folder)
