"""OpenAI's own checkpoints: TorchScript archives, read for their tensors alone.

``torch.jit.load`` would run the archive's code; here nothing of it is run. The archive is a zip file whose
``data.pkl`` describes the modules and whose ``data/`` holds the tensors' bytes.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from zeroshot.errors import ModelCorrupt

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}
_MAX_CODE_BYTES = 16 * 2**20
_SIZES = ("input_resolution", "context_length", "vocab_size")
"""Numbers that the archive keeps among its tensors."""


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip file with code in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def uses_quick_gelu(path: Path) -> bool:
    """Whether an archive's activation is QuickGELU, OpenAI's own: its code never calls ``torch.gelu``."""
    try:
        with zipfile.ZipFile(path) as archive:
            code = [info for info in archive.infolist() if info.filename.endswith(".py")]
            return not any(b"torch.gelu(" in archive.open(info).read(_MAX_CODE_BYTES) for info in code)
    except Exception as error:  # damaged archives raise many kinds
        raise ModelCorrupt(
            f"{path} cannot be read as a TorchScript archive: {error}.", "Download it again.", field="model"
        ) from error


def read_archive(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
            data = [
                info for info in archive.infolist() if info.filename.startswith((f"{root}data/", f"{root}data.pkl"))
            ]
            if any(info.compress_type != zipfile.ZIP_STORED for info in data):
                raise ValueError("its data are compressed")  # torch stores them as they are
            with archive.open(f"{root}data.pkl") as file:
                module = _Reader(file, archive, f"{root}data/").load()
        tensors: dict[str, torch.Tensor] = {}
        _collect(module, "", tensors)
    except Exception as error:  # damaged pickles raise almost anything
        raise ModelCorrupt(
            f"{path} cannot be read as a TorchScript archive: {error or type(error).__name__}.",
            "Download it again.",
            field="model",
        ) from error
    for name in _SIZES:
        tensors.pop(name, None)
    return tensors


class _Module:
    """A module of the archive: what its attributes are."""

    def __init__(self, *_: Any) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Reader(pickle.Unpickler):
    """An unpickler that makes modules, tensors and plain values, and calls nothing else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle":
            return _plain
        raise pickle.UnpicklingError(f"it wants {module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise pickle.UnpicklingError(f"it has an object {kind!r}")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._folder}{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        if len(self._storages[key]) < int(count):
            raise pickle.UnpicklingError(f"its storage {key} is cut short")
        return self._storages[key]


def _tensor(storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), int(offset))


def _plain(value: Any, *_: Any) -> Any:
    return value


def _collect(module: Any, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    if not isinstance(module, _Module):
        raise TypeError("it holds no module")
    for name, value in module.attributes.items():
        if isinstance(value, torch.Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", tensors)
