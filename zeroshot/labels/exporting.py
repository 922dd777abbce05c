"""Label sets back into files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from zeroshot.errors import OptionError, quote
from zeroshot.labels.clusters import VectorFile
from zeroshot.labels.files import LabelSetFile
from zeroshot.labels.label_set import LabelSet
from zeroshot.output import write_new_files


def export_label_set(label_set: LabelSet, file: Path) -> list[Path]:
    """Write a label set that ``load_label_set`` reads."""
    check_yaml(file)
    vectors = [
        VectorFile(file=f"{file.stem}.{head.fingerprint[:12]}.npz", sha256=head.digest) for head in label_set.heads
    ]
    files = {file.with_name(entry.file): head.to_bytes() for entry, head in zip(vectors, label_set.heads, strict=True)}
    files[file] = to_yaml(LabelSetFile.of(label_set, vectors).as_data()).encode()
    write_new_files(files)
    return list(files)


def check_yaml(file: Path) -> None:
    """Refuse a name that ``load_label_set`` would not read."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise OptionError(f"{quote(str(file))} is not a YAML file.", "End its name in .yaml.")


def to_yaml(data: dict[str, Any]) -> str:
    """Write plain values as YAML, in their order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
