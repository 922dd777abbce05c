"""``zeroshot serve``: the HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroshot.settings import load_settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind. [default: ZEROSHOT_HOST, else 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one. [default: ZEROSHOT_PORT, else 8000]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="For open_clip models: auto, fp32, fp16, bf16.")] = None,
) -> None:
    """Serve the HTTP API; /docs describes it."""
    import uvicorn

    from zeroshot.cli.inputs import build_classifier
    from zeroshot.service import create_app

    settings = load_settings()
    app = create_app(build_classifier(settings, model=model, device=device, precision=precision), settings.home)
    uvicorn.run(
        app,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        log_level="info",
        server_header=False,
    )
