"""``saywhy studio``: the web studio on the own machine."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import Device
from saywhy.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from saywhy.studio.settings import StudioSettings

DEMO = ("toybox:classifier", "toybox:ucam", "toybox:captioner", "toybox:counter", "toybox:questioner")
"""The models without --model."""


def studio(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="As for `saywhy explain`; the demo models by default. Repeatable."),
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option("--images", help="Images, or folders of images, as examples. Repeatable.")
    ] = None,
    study: Annotated[
        list[Path] | None, typer.Option("--study", help="The folder of a study (`saywhy study make`). Repeatable.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port.  [default: 8642]")] = None,
    public: Annotated[
        bool | None,
        typer.Option("--public", help="Allow other machines (with --host 0.0.0.0); a token is made if none is given."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="The address under which others open it, e.g. https://maps.example.org behind a proxy."),
    ] = None,
    token: Annotated[str | None, typer.Option(help="The token that visitors must give.")] = None,
    device: Device = None,
) -> None:
    """Serve the web studio: ask models about images in a browser, with a REST API under /api."""
    try:
        import uvicorn

        from saywhy.studio.app import create_app
    except ImportError as error:
        raise MissingExtra(f"the studio needs FastAPI ({error}). Install it: pip install 'saywhy[studio]'") from error
    from saywhy.models import load
    from saywhy.studies.study import read_study
    from saywhy.studio.settings import StudioSettings

    studies = [read_study(folder) for folder in study or ()]
    settings = StudioSettings.from_environment(host=host, port=port, public=public, address=address, token=token)
    names = list(dict.fromkeys(model or DEMO))
    with screen.noted_warnings(), screen.Steps(len(names)) as steps:
        models = {}
        for name in names:
            steps.now(f"loading {name}")
            models[name] = load(name, device=device)
            steps.done()
    app = create_app(models, _examples(images, demo=model is None), settings, studies)
    with listening(settings) as (socket, address):
        asked = f"/?token={settings.token}" if settings.token else ""
        screen.note(f"the studio is at {address}{asked} (Ctrl-C ends it)")
        for one in studies:
            screen.note(f"raters of '{one.folder}': {address}/study/{one.link}")
        config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[socket])


@contextmanager
def listening(settings: "StudioSettings") -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that listens, and the address under which it is opened.

    Raises:
        InputError: the address cannot be listened on, for instance because another program does.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((settings.host, settings.port))
            made.listen(128)
        except OSError as error:
            raise InputError(
                f"port {settings.port} of {settings.host} cannot be used ({error.strerror}). Name another: --port."
            ) from error
        host = socket.gethostname() if settings.host in ("0.0.0.0", "::") else settings.host
        shown = f"[{host}]" if ":" in host else host
        yield made, settings.address or f"http://{shown}:{made.getsockname()[1]}"


def _examples(images: list[Path] | None, *, demo: bool) -> list[tuple[str, Any]]:
    """Return the images to begin with: those given, or drawn scenes for the demo models."""
    from saywhy.images import images_in

    if images:
        return [
            ((file.relative_to(given) if given.is_dir() else Path(file.name)).as_posix(), file)
            for given in images
            for file in images_in([given])
        ]
    if not demo:
        return []
    from saywhy.datasets.registry import READERS

    draw = READERS.find("toybox").function
    shown = {"dog and bird": ("test", 75), "dog in the snow": ("talk-test", 33), "a mug": ("test", 22)}
    return [(name, draw(split, size=384)[index].open()) for name, (split, index) in shown.items()]
