"""A Hugging Face cache as its client lays it out, with files that a test made: what ``ARCH:TAG`` finds offline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import open_clip
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

REVISION = "0" * 40


def put(cache: Path, repository: str, name: str, content: bytes | Path) -> Path:
    """Put one file of a repository into the cache (``HF_HUB_CACHE``); a path is moved there."""
    root = cache / f"models--{repository.replace('/', '--')}"
    blobs, snapshot = root / "blobs", root / "snapshots" / REVISION
    for folder in (blobs, snapshot, root / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(REVISION)
    digest = hashlib.sha256(f"{repository}/{name}".encode()).hexdigest()
    if isinstance(content, Path):
        content.replace(blobs / digest)
    else:
        (blobs / digest).write_bytes(content)
    (root / ".no_exist" / REVISION / name).unlink(missing_ok=True)
    link = snapshot / name
    link.unlink(missing_ok=True)
    link.symlink_to(Path("../../blobs") / digest)
    return link


def lacks(cache: Path, repository: str, name: str) -> None:
    """Note, as the client does, that the repository is known to have no such file."""
    marker = cache / f"models--{repository.replace('/', '--')}" / ".no_exist" / REVISION / name
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def environment_of(cache: Path) -> dict[str, str]:
    """The variables under which the hub's client has this cache and no network."""
    return {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def weights_name(architecture: str, tag: str) -> tuple[str, str]:
    """Repository and file in which open_clip looks for a tag's weights first."""
    repository, _, name = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].rpartition("/")
    return repository, f"{name[:-4]}.safetensors" if name else "open_clip_model.safetensors"


def put_tokenizer(cache: Path, repository: str) -> None:
    """A small tokenizer of the kind that a repository's own is of, under its name."""
    tokenizer, settings = _tokenizer(repository)
    put(cache, repository, "tokenizer.json", tokenizer.to_str().encode())
    put(cache, repository, "tokenizer_config.json", json.dumps(settings).encode())
    lacks(cache, repository, "config.json")


def _tokenizer(repository: str) -> tuple[Tokenizer, dict[str, Any]]:
    words = Path(open_clip.__file__).with_name("zero_shot_metadata.py").read_text().lower().splitlines()
    special = ["<pad>", "</s>", "<unk>", "<s>", "[SEP]", "[CLS]"]
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    if "bert" in repository and "roberta" not in repository:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
        around, settings["sep_token"] = ("[CLS]", "[SEP]"), "[SEP]"
    elif "roberta" in repository:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
        around = ("<s>", "</s>")
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=1500, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        around = ("", "</s>")
    tokenizer.train_from_iterator(words, trainer)
    ids = {name: tokenizer.token_to_id(name) for name in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(part for part in (around[0], "$0", around[1]) if part),
        special_tokens=[(name, ids[name]) for name in around if name],
    )
    settings["eos_token"] = around[1]
    return tokenizer, settings
