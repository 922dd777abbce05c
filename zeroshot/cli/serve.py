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
) -> None:
    """Serve the HTTP API; /docs describes it."""
    import uvicorn

    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.cli.inputs import limits_from
    from zeroshot.encoders import load_encoder
    from zeroshot.service import create_app

    settings = load_settings()
    encoder = load_encoder(model or settings.model, threads=settings.threads, batch_size=settings.batch_size)
    app = create_app(ZeroShotClassifier(encoder, limits=limits_from(settings)))
    uvicorn.run(
        app,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        log_level="info",
        server_header=False,
    )
