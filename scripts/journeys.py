"""Count the files that a request goes through: ``python -m scripts.journeys``.

A profile hook in every thread notes each call that enters a file under ``zeroshot/``. A file counts once; a move is a
call into another file than the thread's last one; the moves of all threads are added up. Each request is made once
before it is counted, so that imports and other work that is done once are not in it; "new labels" were not sent before.
"""

from __future__ import annotations

import argparse
import base64
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import httpx
import uvicorn

import zeroshot
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.labels import as_label_set, load_label_set
from zeroshot.service.app import create_app

SOURCES = f"{Path(zeroshot.__file__).parent}/"
PHOTOS = Path(__file__).parent.parent / "examples" / "photos"
_QUIET_S = 0.3  # after an answer, until what it left behind (logs, metrics) is done


class Recorder:
    """What a profile hook notes while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.files: list[str] = []
        self._last: dict[int, str] = {}
        self._lock = threading.Lock()

    def hook(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call, for ``sys.setprofile``."""
        name = frame.f_code.co_filename
        if not self.is_on or event != "call" or not name.startswith(SOURCES):
            return
        with self._lock:
            if self._last.get(threading.get_ident()) != name:
                self._last[threading.get_ident()] = name
                self.files.append(name)

    def of(self, work: Callable[[], object], *, settle_s: float = 0.0) -> list[str]:
        """Run something and give the files it entered, one entry a move."""
        self.files, self._last, self.is_on = [], {}, True
        work()
        time.sleep(settle_s)
        self.is_on = False
        return [name.removeprefix(SOURCES) for name in self.files]


@contextmanager
def served(classifier: ZeroShotClassifier, home: Path) -> Iterator[httpx.Client]:
    """A client of a server that runs in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(classifier, home), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(30)


def journeys(recorder: Recorder, home: Path) -> Iterator[tuple[str, list[str]]]:
    """Every journey's name and the files it entered."""
    classifier = ZeroShotClassifier("tiny")
    image = (PHOTOS / "cat.jpg").read_bytes()
    known, new = (f"{name},cat,dog" for name in ("rocket", "teapot"))
    with served(classifier, home) as client:

        def classify(labels: str) -> None:
            client.post("/v1/classify", files={"image": image}, data={"labels": labels}).raise_for_status()

        def add(name: str) -> None:
            items = {"items": [{"id": name, "image": base64.b64encode(image).decode()}]}
            client.post("/v1/galleries/g/items", json=items).raise_for_status()

        def search() -> None:
            client.post("/v1/galleries/g/search", files={"image": image}).raise_for_status()

        classify(known)
        yield "POST /v1/classify, known labels", recorder.of(lambda: classify(known), settle_s=_QUIET_S)
        yield "POST /v1/classify, new labels", recorder.of(lambda: classify(new), settle_s=_QUIET_S)
        client.post("/v1/galleries", json={"name": "g"}).raise_for_status()
        add("first")
        yield "POST /v1/galleries/{name}/items, one image", recorder.of(lambda: add("second"), settle_s=_QUIET_S)
        search()
        yield "POST /v1/galleries/{name}/search, by image", recorder.of(search, settle_s=_QUIET_S)
    load_label_set("everyday")
    ZeroShotClassifier(classifier.encoder).class_matrix(as_label_set(["cat", "dog"]))
    fresh = ZeroShotClassifier(classifier.encoder)
    file = home / "pets.yaml"
    file.write_text("name: pets\nlabels: [cat, dog, teapot]\n")
    yield "YAML label set to class matrix", recorder.of(lambda: fresh.class_matrix(load_label_set(str(file))))


def main() -> None:
    """Print each journey's files and moves; with ``--files``, which."""
    parser = argparse.ArgumentParser(description="Count the files that a request goes through.")
    parser.add_argument("--files", action="store_true", help="name the files, in the order of their first call")
    arguments = parser.parse_args()
    recorder = Recorder()
    threading.setprofile(recorder.hook)
    sys.setprofile(recorder.hook)
    with TemporaryDirectory() as folder:
        for name, moves in journeys(recorder, Path(folder)):
            print(f"{name}: {len(set(moves))} files, {len(moves)} moves")
            if arguments.files:
                print("  " + "\n  ".join(dict.fromkeys(moves)))


if __name__ == "__main__":
    main()
