"""The command line: it parses options, calls the library and prints results."""

import gc
import io
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from saywhy.cli.ask import ask
from saywhy.cli.benchmark import benchmark
from saywhy.cli.caption import caption
from saywhy.cli.check import check
from saywhy.cli.count import count
from saywhy.cli.demo import demo
from saywhy.cli.explain import explain
from saywhy.cli.fix import fix
from saywhy.cli.questions import questions
from saywhy.cli.score_counts import score_counts
from saywhy.cli.screen import failure
from saywhy.cli.studio import studio
from saywhy.cli.study import study
from saywhy.cli.tables import datasets, layers, methods, metrics, models, targets, tasks
from saywhy.cli.textual import textual
from saywhy.cli.train import train
from saywhy.engine.memory import out_of_memory
from saywhy.errors import SaywhyError


class _Commands(TyperGroup):
    """The commands; an error of the user is one sentence and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SaywhyError as error:
            failure(str(error))
            raise typer.Exit(1) from error
        except BrokenPipeError:
            raise
        except OSError as error:  # a full disk, a folder without permission
            what = f"'{error.filename}'" if error.filename else "a file or the output"
            failure(f"{what} cannot be read or written: {error.strerror or error}.")
            raise typer.Exit(1) from error
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not out_of_memory(error):
                raise
            failure("out of memory. Give fewer targets, or a smaller --input-size.")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stopped:
            failure("stopped")
            raise typer.Exit(130) from stopped


app = typer.Typer(
    name="saywhy",
    cls=_Commands,
    help="Ask a vision model why it said that. See the answer on the picture.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
LISTS = (methods, metrics, targets, models, datasets, tasks, layers)
"""The commands that list the choices."""

for command in (
    explain,
    ask,
    caption,
    questions,
    count,
    score_counts,
    check,
    benchmark,
    fix,
    textual,
    studio,
    *LISTS,
    train,
    demo,
):
    app.command()(command)
app.add_typer(study)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    """Ask a vision model why it said that. See the answer on the picture."""
    if show:
        from importlib.metadata import version as installed

        print(f"saywhy {installed('saywhy')}")
        raise typer.Exit


def main() -> None:
    """Run the command line.

    Exit codes: 0 success, 1 an error of input, model or method, 2 a wrong command or option, 130 stopped with Ctrl-C.
    """
    gc.freeze()  # the modules of torch live to the end; collecting them at exit takes time
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without × or Σ shows a question mark
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has closed it
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # the output is a file on a full disk
        sys.stdout = None  # which would be flushed once more
        failure(f"the output cannot be written: {error.strerror or error}.")
        sys.exit(1)


__all__ = ["app", "main"]
