"""Settings: read once, at the top of a program, from ``ZEROSHOT_*`` environment variables and ``.env``.

Nothing below the composition roots (the command line and the service) reads them: values arrive there as arguments.
"""

from __future__ import annotations

from pathlib import Path

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from zeroshot.errors import OptionError


class Settings(BaseSettings):
    """Every setting, with its unit in its name where it has one.

    An attribute ``max_image_bytes`` is set by the environment variable ``ZEROSHOT_MAX_IMAGE_BYTES``.
    """

    model_config = SettingsConfigDict(env_prefix="ZEROSHOT_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("zeroshot"),
        description="Folder for everything zeroshot keeps.",
    )
    model: str = Field("tiny", min_length=1, description="Model spec used when none is given.")
    device: str = Field("auto", min_length=1, description="Device of open_clip models: auto, cpu, cuda, cuda:1, mps.")
    precision: str = Field("auto", description="Precision of open_clip models: auto, fp32, fp16, bf16.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of an encoder; 0 is every core.")
    batch_size: int = Field(16, ge=1, le=4096, description="Pictures or texts encoded at once.")
    text_cache_bytes: int = Field(
        2**30, ge=0, description="Most text embeddings kept in the home folder, in bytes; 0 is none."
    )
    max_image_bytes: int = Field(64 * 2**20, ge=1, description="Largest encoded picture read, in bytes.")
    max_image_pixels: int = Field(89_478_485, ge=1, description="Most pixels of a picture, checked before decoding.")
    max_image_side: int = Field(
        30_000, ge=1, description="Longest side of a picture in pixels, checked before decoding."
    )
    allow_urls: bool = Field(False, description="Let Python and the command line fetch http(s) pictures.")
    host: str = Field("127.0.0.1", min_length=1, description="Address the server binds.")
    port: int = Field(8000, ge=0, le=65535, description="Port the server binds; 0 picks a free one.")


def load_settings() -> Settings:
    """Read the settings from the environment and ``.env``.

    Returns
    -------
    Settings
        Validated, immutable settings.

    Raises
    ------
    OptionError
        If a variable's value is out of its range; the message names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"ZEROSHOT_{str(first['loc'][0]).upper()}"
        raise OptionError(
            f"{name}={first['input']} is not accepted: {first['msg']}.",
            f"Change or unset {name} (environment or .env file).",
            field=name,
        ) from error
