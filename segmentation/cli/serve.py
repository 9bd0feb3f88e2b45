"""``mycelia serve``."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.errors import ConfigError, MissingExtraError
from segmentation.cli.arguments import FreeOverrides, IndexPath
from segmentation.cli.console import say
from segmentation.cli.logs import JsonLines
from segmentation.cli.overrides import changed_recipe, open_segmenter

if TYPE_CHECKING:
    from segmentation.service.settings import ServiceSettings

#: The environment's variable of Label Studio's token.
TOKEN = "MYCELIA_LABEL_STUDIO_TOKEN"

#: Seconds that requests have to end when the service is stopped.
GRACE = 20

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_MIB = 2**20


def serve(
    index: IndexPath,
    overrides: FreeOverrides = None,
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8000,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="File of keys, a line each: read:DIGEST or write:DIGEST (SHA-256). Else MYCELIA_KEYS.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let nobody change the index.")] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", metavar="URL", help="Another origin whose pages may ask; may be repeated."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name of this host; may be repeated."),
    ] = None,
    label_studio_url: Annotated[
        str | None,
        typer.Option(
            "--label-studio-url", metavar="URL", help=f"Where images of tasks are fetched; token in {TOKEN}."
        ),
    ] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Largest upload, MiB.")] = 32,
    max_megapixels: Annotated[
        int, typer.Option("--max-megapixels", min=1, max=89, help="Largest photo, millions of pixels.")
    ] = 40,
    cache_mb: Annotated[
        int, typer.Option("--cache-mb", min=0, help="Memory for described photos, MiB.")
    ] = 512,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Requests that may wait.")] = 64,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log a JSON object a line.")] = False,
    show_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve an index over HTTP: segment, explain, teach, a page for people, a backend for Label Studio.

    Listens to this machine alone unless told otherwise; then keys are required. Needs mycelia[serve].

    \b
    Examples:
      mycelia serve my.index
      mycelia serve my.index --host 0.0.0.0 --keys keys.txt --allow-host masks.example.org
      mycelia serve my.index --label-studio-url http://localhost:8080
    """
    require_service()

    from retrieval import IndexFolder
    from segmentation.service.settings import ServiceSettings

    settings = ServiceSettings(
        host=host,
        read_only=read_only,
        hosts=tuple(allow_host or ()),
        origins=tuple(origin or ()),
        max_bytes=max_mb * _MIB,
        max_pixels=max_megapixels * 1_000_000,
        cache_bytes=cache_mb * _MIB,
        queue=queue,
        label_studio=_label_studio(label_studio_url),
    )
    folder = IndexFolder.open(index)
    recipe = changed_recipe(folder, overrides)

    from segmentation.service.app import create_app
    from segmentation.service.security import Keys

    found = Keys.load(keys)
    segmenter = None
    app = create_app(
        lambda: segmenter or open_segmenter(folder, recipe), index, settings=settings, keys=found
    )
    segmenter = open_segmenter(
        folder, recipe
    )  # what is wrong with it is said in a line, before a port is taken
    _run(app, settings, port, log_json=log_json, keys=bool(found), show_page=show_page)


def require_service() -> None:
    """Raise MissingExtraError where a package of the service is missing."""
    if any(find_spec(name) is None for name in _PACKAGES):
        raise MissingExtraError(
            "mycelia serve needs fastapi, uvicorn, python-multipart and prometheus-client; "
            "install them with: pip install 'mycelia[serve]'"
        )


def _label_studio(url: str | None) -> Any:
    from urllib.parse import urlsplit

    from segmentation.service.settings import LabelStudioSettings

    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--label-studio-url {url!r} should be http://HOST:PORT or https://HOST")
    return LabelStudioSettings(url.rstrip("/"), os.environ.get(TOKEN))


def _run(
    app: Any, settings: ServiceSettings, port: int, *, log_json: bool, keys: bool, show_page: bool
) -> None:
    import webbrowser

    import uvicorn

    logger = logging.getLogger("mycelia.service")
    handler = logging.StreamHandler()
    if log_json:
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False  # the command shows what the packages say in its own way
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 * 1024,
    )
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{shown}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started and not self.should_exit:
                say(f"{address} ({'with keys' if keys else 'this machine alone'}); stop with Ctrl+C")
                if show_page:
                    webbrowser.open(address)

    try:
        Server(config).run()
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
