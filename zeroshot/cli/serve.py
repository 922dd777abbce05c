"""``zeroshot serve``: the HTTP service."""

from __future__ import annotations

import ipaddress
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings
from zeroshot.errors import ZeroshotError

if TYPE_CHECKING:
    from zeroshot.service import ServiceConfig
    from zeroshot.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind. [default: ZEROSHOT_HOST, else 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one. [default: ZEROSHOT_PORT, else 8000]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="For open_clip models: auto, fp32, fp16, bf16.")] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Bind other addresses than loopback without API keys.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the settings, the address and the model, and exit.")
    ] = False,
) -> None:
    """Serve the HTTP API; /docs describes it, docs/service.md says how to run it.

    Told to stop (SIGTERM), it answers what it has accepted and exits with 0; with 1 if it could not within
    ZEROSHOT_DRAIN_TIMEOUT_S. A second Ctrl-C ends it at once. SIGHUP reads keys and the log level again.
    """
    from zeroshot.cli.inputs import build_classifier
    from zeroshot.service import create_app
    from zeroshot.service.log_config import set_up_logging
    from zeroshot.service.server import bind, bound_memory
    from zeroshot.service.server import serve as run

    settings = load_settings(or_dotenv=True)
    bound_memory()
    set_up_logging(settings.log_format, settings.log_level)
    host = settings.host if host is None else host
    config = _config(settings, host, allow_anonymous=allow_anonymous or settings.allow_anonymous)
    bound = bind(host, settings.port if port is None else port)
    classifier = build_classifier(settings, model=model, device=device, precision=precision)
    app = create_app(classifier, settings.home, config)
    if check:
        app.state.service.pipeline.warm_up()
        bound.close()
        spec, keys = classifier.encoder.spec, len(config.keys.hashes)
        sys.stdout.write(f"ready to serve {spec} at {host}, {keys or 'no'} API keys, home {settings.home}\n")
        return

    def reload() -> None:
        try:
            level = load_settings(or_dotenv=True).log_level.upper()
        except ZeroshotError as error:
            log.error("SIGHUP: %s The settings stay as they are.", error)
            return
        logging.getLogger().setLevel(level)
        log.warning("SIGHUP: the log level is %s", level.lower())

    log = logging.getLogger(__name__)

    code = run(app, bound, drain_timeout_s=settings.drain_timeout_s, on_hangup=reload)
    if code:
        raise typer.Exit(code)


def _config(settings: Settings, host: str, *, allow_anonymous: bool) -> ServiceConfig:
    from zeroshot.errors import OptionError
    from zeroshot.service import ServiceConfig
    from zeroshot.service.api_keys import ApiKeys
    from zeroshot.service.middleware.auth import LOOPBACK
    from zeroshot.service.tracing import Tracing

    keys = ApiKeys.read(settings.api_keys, settings.api_keys_file)
    if not keys and not allow_anonymous and not _is_loopback(host):
        raise OptionError(
            f"Anyone who reaches {host} could use this server: it has no API keys.",
            "Make one (zeroshot keys new NAME) and set ZEROSHOT_API_KEYS; or say --allow-anonymous.",
            field="api_keys",
        )
    own_names = () if keys or not _is_loopback(host) else tuple(LOOPBACK)
    return ServiceConfig.from_settings(
        settings,
        keys=keys,
        allowed_hosts=settings.allowed_hosts or own_names,
        tracing=Tracing() if settings.tracing else None,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
