"""A collection as people have them: eight thousand images of Debian's openclipart-png, through the program."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Run, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clipart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's images, unpacked, not installed."""
    folder = tmp_path_factory.mktemp("clipart")
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("openclipart-png comes from Debian")
    fetched = subprocess.run(["apt-get", "download", "openclipart-png"], cwd=folder, capture_output=True, text=True)
    if fetched.returncode != 0:
        subprocess.run(["apt-get", "update"], capture_output=True)
        fetched = subprocess.run(["apt-get", "download", "openclipart-png"], cwd=folder, capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"openclipart-png cannot be had: {fetched.stderr.strip()}")
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    package.unlink()
    return folder


def wait_for_art(run: Run, *, more_than: int) -> None:
    """Wait until the gallery that is being filled has so many images."""
    deadline = time.monotonic() + 300
    while True:
        told = run("gallery", "info", "art", "--json")  # not there, to begin with
        if told.returncode == 0 and json.loads(told.stdout)["count"] > more_than:
            return
        assert time.monotonic() < deadline, told


def test_eight_thousand_images_are_indexed_through_interruptions(clipart: Path, run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zeroshot", "index", str(clipart), "--gallery", "art"]
    interrupted = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path / "home")
    )
    wait_for_art(run, more_than=1000)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=60)
    assert interrupted.returncode != 0
    done = json.loads(run("gallery", "info", "art", "--json").stdout)["count"]
    assert done > 1000
    killed = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path / "home")
    )
    wait_for_art(run, more_than=done + 1000)
    killed.kill()
    killed.communicate()
    more = json.loads(run("gallery", "info", "art", "--json").stdout)["count"]
    assert done + 1000 < more < 8000
    finished = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "home"), timeout=600)
    assert finished.returncode == 1  # some are far too large, which is said
    assert f"{more:,} unchanged" in finished.stdout
    assert "pixels" in finished.stderr
    assert "Traceback" not in finished.stderr
    counted = json.loads(run("gallery", "info", "art", "--json").stdout)["count"]
    assert counted > 6500
    assert "all sound" in run("gallery", "verify", "art").stdout
    found = run("search", "a car", "--gallery", "art", "--json").stdout.splitlines()
    assert sum("car" in Path(json.loads(line)["id"]).name for line in found) >= 8
