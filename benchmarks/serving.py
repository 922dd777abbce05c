"""The service under load, on 127.0.0.1: what HTTP adds, infinity-emb beside it, overload, a soak.

overhead  tiny, one client: the HTTP answer against the same call in process.
infinity  ViT-B-32 with the same random weights, 1, 8 and 32 clients, against infinity-emb.
overload  tiny, four times what it can do, for a minute.
soak      tiny, 20,000 requests; memory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import quote

import psutil
import uvloop
from PIL import Image

from benchmarks.load import Load, closed_loop, open_loop
from benchmarks.results import Results
from benchmarks.rivals import python_of

PHOTOS = Path(__file__).parent.parent / "examples/photos"
LABELS = ["cat", "dog", "a cup of coffee", "rocket", "motorcycle", "camera", "person", "temple", "flower", "tree"]
PARTS = ("overhead", "infinity", "overload", "soak")


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--requests", type=int, default=20_000, help="of soak")
    arguments = parser.parse_args()
    results = Results("serving", ("zeroshot", "fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "pillow"))
    runs = {
        "overhead": lambda: overhead(results),
        "infinity": lambda: infinity(results),
        "overload": lambda: overload(results, arguments.seconds),
        "soak": lambda: soak(results, arguments.requests),
    }
    for part in arguments.parts:
        runs[part]()
    results.save()


def photo() -> bytes:
    """A 640 x 480 JPEG."""
    buffer = io.BytesIO()
    image = Image.open(PHOTOS / "motorcycle.jpg").convert("RGB").resize((640, 480), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@contextmanager
def server(command: list[str], ready: str, **variables: str) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a server that answers at `ready`; "PORT" in the command is a free one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w") as log:
        own = {k: v for k, v in os.environ.items() if not k.startswith("ZEROSHOT_")}
        process = subprocess.Popen(
            [word.replace("PORT", str(port)) for word in command],
            stdout=log,
            stderr=log,
            env={**own, "ZEROSHOT_HOME": home, "HF_HUB_OFFLINE": "1", **variables},
        )
        try:
            deadline = time.monotonic() + 300
            while not _answers(port, ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((Path(home) / "log").read_text()[-3000:])
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _answers(port: int, path: str) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


def ours(*arguments: str, **variables: str):
    """A zeroshot serve."""
    command = [sys.executable, "-m", "zeroshot", "serve", "--port", "PORT", *arguments]
    return server(command, "/readyz", ZEROSHOT_LOG_LEVEL="warning", **variables)


def overhead(results: Results) -> None:
    """One client: the server's p50 over the classifier's own, in processes of their own, in turns of ten."""
    jpeg = photo()
    query = "&".join(f"labels={quote(label)}" for label in LABELS)
    body = json.dumps({"image": base64.b64encode(jpeg).decode(), "labels": LABELS}).encode()
    program = (
        "import sys, time\n"
        "from zeroshot import ZeroShotClassifier\n"
        f"labels, size = {LABELS!r}, {len(jpeg)}\n"
        "jpeg = sys.stdin.buffer.read(size)\n"
        "classifier = ZeroShotClassifier('tiny')\n"
        "for line in sys.stdin.buffer:\n"
        "    start = time.perf_counter()\n"
        "    classifier.classify(jpeg, labels)\n"
        "    print(time.perf_counter() - start, flush=True)\n"
    )
    with ours() as (url, _):
        host, port = url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port))
        inside = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        inside.stdin.write(jpeg)

        def in_process() -> float:
            inside.stdin.write(b"\n")
            inside.stdin.flush()
            return float(inside.stdout.readline())

        def over_http(path: str, content: bytes, content_type: str) -> float:
            start = time.perf_counter()
            connection.request("POST", path, content, {"Content-Type": content_type})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(answer.status)
            return time.perf_counter() - start

        sides = {
            "in process": in_process,
            "HTTP, the image as the body": lambda: over_http(f"/v1/classify?{query}", jpeg, "image/jpeg"),
            "HTTP, JSON with base64": lambda: over_http("/v1/classify", body, "application/json"),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(33):
            for name, run in sides.items():
                time.sleep(0.1)  # the other side's threads, which spin for a while, go to sleep
                took = [run() for _ in range(10)]
                if turn >= 3:
                    times[name] += took[2:]  # the first finds caches that are the other side's
        inside.stdin.close()
        inside.wait()
    p50 = {name: 1000 * median(values) for name, values in times.items()}
    base = p50["in process"]
    note = "HTTP over in process: " + ", ".join(f"{value / base:.2f}x" for value in list(p50.values())[1:])
    results.row("tiny, 640x480 JPEG, 10 labels, one client, p50", "ms", p50, note=note)


def infinity(results: Results) -> None:
    """ViT-B-32, the same weights on both sides, the same request on both sides: OpenAI's schema with an image."""
    import open_clip
    from safetensors.torch import save_file

    from benchmarks import hugging_face
    from zeroshot import load_encoder
    from zeroshot.encoders.export import export

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights = folder / "ViT-B-32.safetensors"
        save_file(open_clip.create_model("ViT-B-32").state_dict(), weights)
        encoder = load_encoder(f"ViT-B-32:{weights}", device="cpu", precision="fp32")
        for precision in ("fp32", "int8"):
            export(encoder, folder / precision, images=sorted(PHOTOS.glob("*.jpg")), precision=precision)
        theirs = hugging_face.save(encoder.model, folder / "clip-vit-b32")
        uri = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()
        command = [
            str(python_of("infinity").parent / "infinity_emb"), "v2", "--model-id", str(theirs), "--host", "127.0.0.1",
            "--port", "PORT", "--device", "cpu", "--engine", "torch", "--dtype", "float32", "--no-bettertransformer",
        ]  # fmt: skip
        sides = {
            "infinity-emb": lambda: server(command, "/health"),
            "fp32": lambda: ours("--model", f"onnx:{folder / 'fp32'}"),
            "int8": lambda: ours("--model", f"onnx:{folder / 'int8'}"),
        }
        names = {"infinity-emb": "clip-vit-b32", "fp32": f"onnx:{folder / 'fp32'}", "int8": f"onnx:{folder / 'int8'}"}
        paths = {"infinity-emb": "/embeddings", "fp32": "/v1/embeddings", "int8": "/v1/embeddings"}
        bodies = {
            side: json.dumps({"model": name, "input": [uri], "modality": "image"}).encode()
            for side, name in names.items()
        }
        for clients in (1, 8, 32):
            rates: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(3):  # one server after the other is up, so that none shares the cores
                for side, start in sides.items():
                    with start() as (url, _):
                        arguments = (url, paths[side], "application/json", bodies[side])
                        uvloop.run(closed_loop(*arguments, clients=clients, seconds=4))
                        found = uvloop.run(closed_loop(*arguments, clients=clients, seconds=12))
                        _only_good(found)
                        rates[side].append(found.rate)
            rate = {side: median(values) for side, values in rates.items()}
            what = f"ViT-B-32, one 640x480 JPEG a request, {clients} client{'s' if clients > 1 else ''}"
            results.row(what, "requests/s", rate, rival="infinity-emb")


def _only_good(found: Load) -> None:
    if set(found.statuses) != {200}:
        raise RuntimeError(found.statuses)


def overload(results: Results, seconds: float) -> None:
    """Four times what the server can do: how much of that it still does, how long that takes, and its memory."""
    query = "&".join(f"labels={quote(label)}" for label in LABELS)
    body = photo()
    in_flight = 32
    with ours(ZEROSHOT_MAX_IN_FLIGHT=str(in_flight)) as (url, process):
        arguments = (url, f"/v1/classify?{query}", "image/jpeg", body)
        uvloop.run(closed_loop(*arguments, clients=in_flight, seconds=5))
        before = uvloop.run(closed_loop(*arguments, clients=in_flight, seconds=20))
        _only_good(before)
        memory = [process.memory_info().rss]
        parts: list[Load] = []
        own, theirs = time.process_time(), sum(process.cpu_times()[:2])
        for _ in range(6):
            parts.append(uvloop.run(open_loop(*arguments, rate=4 * before.rate, seconds=seconds / 6)))
            memory.append(process.memory_info().rss)
        own, theirs = time.process_time() - own, sum(process.cpu_times()[:2]) - theirs
        after = uvloop.run(closed_loop(*arguments, clients=in_flight, seconds=20))
    capacity = (before.rate + after.rate) / 2
    good = sum(part.statuses[200] for part in parts)
    elapsed = sum(part.seconds for part in parts)
    latencies = Load(elapsed, latencies=[one for part in parts for one in part.latencies])
    statuses = sum((part.statuses for part in parts), start=before.statuses.__class__())
    bound = in_flight / capacity
    answered = {"capacity before": before.rate, "capacity after": after.rate, "answered under overload": good / elapsed}
    note = f"{good / elapsed / capacity:.1%} of the mean capacity; refused at once: {statuses[503]:,}"
    results.row(f"tiny, {elapsed:.0f} s of four times its capacity", "requests/s", answered, note=note)
    late = {"p50": latencies.quantile(0.5), "p99": latencies.quantile(0.99), "queue over capacity": bound}
    results.row("what was answered under overload took", "s", late)
    note = ", ".join(f"{one / 1e6:.0f}" for one in memory)
    results.row("resident memory under overload", "MB", {"first": memory[0] / 1e6, "last": memory[-1] / 1e6}, note=note)
    cores = {"the server": theirs / elapsed, "the load generator": own / elapsed}
    results.row("cores in use under overload", "", cores)


def soak(results: Results, requests: int) -> None:
    """Many requests; resident memory after a tenth, and at the end."""
    body = json.dumps({"image": base64.b64encode(photo()).decode(), "labels": LABELS}).encode()
    with ours() as (url, process):
        arguments = (url, "/v1/classify", "application/json", body)
        memory, done = [], 0
        step = requests // 10
        while done < requests:
            found = uvloop.run(_exactly(arguments, step))
            done += found
            memory.append(process.memory_info().rss)
            print(f"soak: {done:,} requests, {memory[-1] / 1e6:.0f} MB", flush=True)
    sides = {f"after {step:,}": memory[0] / 1e6, f"after {done:,}": memory[-1] / 1e6}
    note = f"{memory[-1] / memory[0] - 1:+.1%}; at each tenth: " + ", ".join(f"{one / 1e6:.0f}" for one in memory)
    results.row(f"tiny, {done:,} requests: resident memory", "MB", sides, note=note)


async def _exactly(arguments: tuple[str, str, str, bytes], count: int) -> int:
    from benchmarks.load import Connection

    left = count

    async def client() -> None:
        nonlocal left
        connection = Connection(*arguments)
        while left > 0:
            left -= 1
            if await connection.ask() != 200:
                raise RuntimeError("a request failed")
        connection.close()

    await asyncio.gather(*(client() for _ in range(16)))
    return count


if __name__ == "__main__":
    main()
