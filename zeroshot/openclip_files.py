"""What is read of open_clip's files without importing it, which would import torch.

Whatever else is used of open_clip is in ``zeroshot.encoders.openclip_api``.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from zeroshot.errors import MissingDependency


def architecture_names() -> set[str]:
    """Names of the architectures that come with open_clip; none where it is not installed."""
    folder = _folder()
    return set() if folder is None else {path.stem for path in (folder / "model_configs").glob("*.json")}


@lru_cache(maxsize=1)
def zero_shot_metadata() -> Any:
    """Run open_clip's ``zero_shot_metadata.py`` on its own: class names and templates."""
    folder = _folder()
    if folder is None:
        raise MissingDependency("open_clip is not installed.", "Run: pip install open_clip_torch")
    path = folder / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_open_clip_zero_shot_metadata", path)
    if spec is None or spec.loader is None:
        raise MissingDependency(f"{path} cannot be loaded.", "Run: pip install --force-reinstall open_clip_torch")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _folder() -> Path | None:
    package = importlib.util.find_spec("open_clip")
    locations = (package.submodule_search_locations if package else None) or []
    return Path(locations[0]) if locations else None
