"""Settings: read once, at the top of a program, from ``ZEROSHOT_*`` environment variables and a file that it names.

Nothing below the composition roots (the command line and the service) reads them: values arrive there as arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from zeroshot.errors import OptionError


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several values, separated by commas."""


class Settings(BaseSettings):
    """Every setting, with its unit in its name where it has one.

    An attribute ``max_image_bytes`` is set by the environment variable ``ZEROSHOT_MAX_IMAGE_BYTES``.
    """

    model_config = SettingsConfigDict(env_prefix="ZEROSHOT_", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("zeroshot"),
        description="Folder for everything zeroshot keeps.",
    )
    model: str = Field("tiny", min_length=1, description="Model spec used when none is given.")
    device: str = Field("auto", min_length=1, description="Device of open_clip models: auto, cpu, cuda, cuda:1, mps.")
    precision: str = Field("auto", description="Precision of open_clip models: auto, fp32, fp16, bf16.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of an encoder; 0 is every core.")
    batch_size: int = Field(16, ge=1, le=4096, description="Images or texts encoded at once.")
    text_cache_bytes: int = Field(
        2**30, ge=0, description="Most text embeddings kept in the home folder, in bytes; 0 is none."
    )
    max_image_bytes: int = Field(64 * 2**20, ge=1, description="Largest encoded image read, in bytes.")
    max_image_pixels: int = Field(89_478_485, ge=1, description="Most pixels of an image, checked before decoding.")
    max_image_side: int = Field(
        30_000, ge=1, description="Longest side of an image in pixels, checked before decoding."
    )
    allow_urls: bool = Field(False, description="Let Python and the command line fetch http(s) images.")
    host: str = Field("127.0.0.1", min_length=1, description="Address the server binds.")
    port: int = Field(8000, ge=0, le=65535, description="Port the server binds; 0 picks a free one.")
    api_keys: Listed = Field(
        (), repr=False, description="API keys the server accepts, with commas: NAME=sha256:..., or NAME=KEY."
    )
    api_keys_file: Path | None = Field(None, description="File of API keys, one a line: NAME=sha256:...")
    allow_anonymous: bool = Field(False, description="Let the server bind other addresses than loopback without keys.")
    allowed_hosts: Listed = Field(
        (),
        description="Names the header Host may have, with commas. Default: on loopback without keys its own, else any.",
    )
    cors_origins: Listed = Field((), description="Origins whose web pages may ask the server, with commas.")
    rate_limit_per_minute: int = Field(
        0, ge=0, description="Requests a minute of each API key, or without keys of each address; 0 is no limit."
    )
    url_hosts: Listed = Field(
        (), description="Hosts the server fetches images from, with commas: images.example.com, *.example.com, *."
    )
    url_timeout_s: float = Field(10.0, gt=0, le=300, description="Most seconds to fetch an image for a request.")
    max_in_flight: int = Field(128, ge=1, le=100_000, description="Images the server works on; more are refused.")
    max_images_per_request: int = Field(64, ge=1, le=10_000, description="Images in one request that is no stream.")
    max_bytes_in_flight: int = Field(
        512 * 2**20, ge=2**20, description="Most bytes of all request bodies the server works on."
    )
    decode_threads: int = Field(0, ge=0, le=1024, description="Images the server decodes at once; 0 is one per core.")
    request_timeout_s: float = Field(30.0, gt=0, le=3600, description="Most seconds a request may take.")
    stall_timeout_s: float = Field(
        8.0, gt=0, le=3600, description="Seconds after which a running batch counts as stalled: not ready, then gone."
    )
    drain_timeout_s: float = Field(30.0, ge=0, le=3600, description="Seconds for accepted requests when told to stop.")
    log_format: Literal["console", "json"] = Field("console", description="Form of the server's logs: console, json.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe logs of the server: debug, info, warning, error."
    )
    tracing: bool = Field(False, description="Export OpenTelemetry spans, as the variables OTEL_EXPORTER_OTLP_* say.")


def load_settings(env_file: Path | None = None) -> Settings:
    """Read the settings from the environment and, where one is named, from a file.

    No file is read for being there: a folder of images may come from anyone.
    """
    try:
        return Settings(_env_file=env_file, _env_file_encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"{env_file} cannot be read: {error}.", "Give a UTF-8 text file of ZEROSHOT_NAME=value lines."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = f"ZEROSHOT_{str(first['loc'][0]).upper()}"
        raise OptionError(
            f"{name}={first['input']} is not accepted: {first['msg']}.",
            f"Change or unset {name} (environment{f' or {env_file}' if env_file else ''}).",
            field=name,
        ) from error
