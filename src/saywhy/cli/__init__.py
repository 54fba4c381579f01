"""The command line: it parses, calls and prints, and knows nothing else."""

import sys

import typer

from saywhy.cli.demo import demo
from saywhy.cli.explain import explain
from saywhy.cli.screen import failure
from saywhy.cli.tables import layers, methods
from saywhy.errors import SaywhyError

app = typer.Typer(
    name="saywhy",
    help="Ask a vision model why it said that, and see the answer on the picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (explain, methods, layers, demo):
    app.command()(command)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    """Ask a vision model why it said that, and see the answer on the picture."""
    if show:
        from importlib.metadata import version as installed

        print(f"saywhy {installed('saywhy')}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence and an exit code, never a traceback.

    Exit codes: 0 done, 1 something could not be explained, 2 the command was misspelt, 130 stopped with Ctrl-C.
    """
    try:
        app()
    except SaywhyError as error:
        failure(str(error))
        sys.exit(1)
    except BrokenPipeError:  # whoever read our output has gone
        sys.stderr.close()
        sys.exit(1)


__all__ = ["app", "main"]
