"""What the package shows the world: public names, layers, and a wheel that works on its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import zeroshot
from tests.conftest import environment
from tests.images import PHOTOS, ROOT
from zeroshot.cpu import available_cpus


def test_every_public_name_can_be_had() -> None:
    for name in zeroshot.__all__:
        assert getattr(zeroshot, name) is not None
    assert set(zeroshot.__all__) == {*zeroshot._HOME, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zeroshot.nothing  # noqa: B018


def test_imports_point_down_only() -> None:
    tool = Path(sys.executable).parent / "lint-imports"
    finished = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def test_import_zeroshot_imports_nothing_heavy() -> None:
    program = "import sys, zeroshot; sys.exit(bool({'torch', 'numpy', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_modules_are_named_for_what_they_do() -> None:
    vague = ("utils", "helpers", "common", "misc")
    assert not [path for path in (ROOT / "zeroshot").rglob("*.py") if path.stem in vague]


@pytest.mark.slow
def test_the_wheel_classifies_in_an_empty_environment_without_torch(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "zeroshot/data/prompts/labels/cifar10.yaml" in names
    assert "zeroshot/data/tiny/text.onnx" in names
    assert "zeroshot/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    needed = [
        "numpy",
        "pillow",
        "onnxruntime",
        "tokenizers",
        "pydantic-settings",
        "platformdirs",
        "pyyaml",
        "typer",
        "rich",
    ]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=True, capture_output=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    variables = {k: v for k, v in environment(tmp_path).items() if k != "PYTHONPATH"}
    finished = subprocess.run(
        [python.parent / "zeroshot", "classify", PHOTOS / "cat.jpg", "--label-set", "cifar10", "--json"],
        cwd=os.sep,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert '"label": "cat"' in finished.stdout


def test_systems_that_do_not_say_which_cores_are_allowed_use_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cpus() == os.cpu_count()


def test_open_clip_is_used_in_one_module_and_its_files_in_another() -> None:
    importing = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "zeroshot").rglob("*.py")
        if re.search(r"^\s*(import|from) open_clip\b", path.read_text(), re.MULTILINE)
    ]
    assert importing == ["zeroshot/encoders/openclip_api.py"]
    reading = [path.name for path in (ROOT / "zeroshot").rglob("*.py") if 'find_spec("open_clip")' in path.read_text()]
    assert reading == ["openclip_files.py"]


def test_a_folder_that_is_worked_in_lends_no_modules(tmp_path: Path) -> None:
    for name in ("torch", "open_clip", "typer", "numpy", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the folder was run')")
    finished = subprocess.run(
        [sys.executable, "-m", "zeroshot", "classify", PHOTOS / "cat.jpg", "--labels", "cat,dog"],
        cwd=tmp_path,
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
