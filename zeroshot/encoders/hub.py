"""Files of the Hugging Face hub: out of its cache, or downloaded; what is missing is said within seconds.

A repository is never looked for in the working directory, whatever a folder there is called.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlparse

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub import constants as hub
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from zeroshot.errors import ModelUnavailable, quote

_PROBE_TIMEOUT_S = 3.0
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_WAYS_OUT = (
    "Three ways out: set HF_HOME to a cache that has it, or HF_ENDPOINT to a mirror; put open_clip_config.json and the "
    "weights in a folder and use 'local-dir:/path'; or use 'tiny', which needs no download."
)


def is_repository(name: object) -> bool:
    """Whether a text has the form of a repository's name, NAME or ORG/NAME, and is no path."""
    if not isinstance(name, str) or _REPOSITORY.fullmatch(name) is None:
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def cached(repository: str, names: Sequence[str]) -> Path | None:
    """Find the first of some files that the cache has."""
    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def file(spec: str, repository: str, name: str) -> Path:
    """Find or download one file."""
    if (known := cached(repository, [name])) is not None:
        return known
    try:
        return _download(spec, repository, name)
    except EntryNotFoundError as error:
        raise unavailable(spec, f"{name} of {repository}", "the repository has no such file") from error


def optional_file(spec: str, repository: str, name: str) -> Path | None:
    """Find or download a file that not every repository has."""
    if (known := cached(repository, [name])) is not None:
        return known
    if try_to_load_from_cache(repository, name) is _CACHED_NO_EXIST or hub.is_offline_mode():
        return None
    try:
        return _download(spec, repository, name)
    except EntryNotFoundError:
        return None


def _download(spec: str, repository: str, name: str) -> Path:
    """Download a file; EntryNotFoundError where the repository has none of that name."""
    looked_for = f"{name} of {repository}"
    require_hub(spec, looked_for)
    try:
        return Path(hf_hub_download(repository, name))
    except LocalEntryNotFoundError as error:  # an EntryNotFoundError too: the hub did not answer
        raise unavailable(spec, looked_for, str(error)) from error
    except EntryNotFoundError:
        raise
    except Exception as error:  # hub clients raise many kinds
        raise unavailable(spec, looked_for, str(error)) from error


def folder(spec: str, repository: str, patterns: Sequence[str], is_complete: Callable[[Path], bool]) -> Path:
    """Find or download a repository's files of some patterns."""
    looked_for = f"{', '.join(patterns)} of {repository}"
    try:
        local = Path(snapshot_download(repository, allow_patterns=list(patterns), local_files_only=True))
        if is_complete(local):
            return local
    except OSError:  # no snapshot, half of one, or a cache that cannot be read: it is downloaded
        pass
    require_hub(spec, looked_for)
    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as error:  # hub clients raise many kinds
        raise unavailable(spec, looked_for, str(error)) from error


def require_hub(spec: str, looked_for: str) -> None:
    """Fail at once where the hub is switched off or does not answer."""
    if hub.is_offline_mode():
        raise unavailable(spec, looked_for, "HF_HUB_OFFLINE is set")
    require_host(spec, looked_for, hub.ENDPOINT)


def require_host(spec: str, looked_for: str, url: str) -> None:
    """Fail at once where a host does not answer; a proxy is left to answer for itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    address = urlparse(url)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise unavailable(spec, looked_for, f"{address.hostname} cannot be reached: {error}") from error


def unavailable(spec: str, looked_for: str, reason: str) -> ModelUnavailable:
    """The error for what is neither here nor to be had."""
    return ModelUnavailable(
        f"{spec} is not on this machine: looked for {looked_for} in {hub.HF_HUB_CACHE}, and it cannot be downloaded "
        f"({quote(reason, limit=160)}).",
        _WAYS_OUT,
        field="model",
    )
