"""What the service costs over the library, with one client and with many, and whether it grows.

    python -m benchmarks.service INDEX PHOTOS --out benchmarks/results

The service runs as a process of its own on this machine, clients in this one. Every request has a photo that
was not seen before (pixels of a real one, a few changed). "added" is the median of a request's time less
that of ``Segmenter.segment`` of the same file just before; "seen before" asks again by id.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.command import plain_parser
from benchmarks.report import write_table
from segmentation import Segmenter


def photos_of(folder: Path, count: int) -> list[bytes]:
    """So many JPEGs, all different: the photos of a folder in turn, with a few pixels of noise."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    made = []
    for number in range(count):
        pixels = np.array(Image.open(paths[number % len(paths)]).convert("RGB"))
        pixels[:8, :8] = np.random.default_rng(number).integers(0, 256, pixels[:8, :8].shape)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        made.append(file.getvalue())
    return made


@contextmanager
def serving(index: Path) -> Iterator[tuple[int, str]]:
    """The service's process number and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from segmentation.cli import main; main()", "serve", str(index)]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            time.sleep(0.2)
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                continue
        yield process.pid, address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def resident(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def ask(client: httpx.Client, photo: bytes) -> tuple[float, str]:
    """Seconds of one request, and the photo's id."""
    start = time.perf_counter()
    answer = client.post("/v1/segment", files={"image": ("photo.jpg", photo, "image/jpeg")})
    answer.raise_for_status()
    return time.perf_counter() - start, answer.json()["id"]


def by_turns(segmenter: Segmenter, address: str, photos: Sequence[bytes]) -> dict[str, list[float]]:
    """Seconds of each photo in the library, in the service, and there again by its id.

    One after the other, so that what else the machine does slows all of them.
    """
    taken: dict[str, list[float]] = {"library": [], "service": [], "again": []}
    with httpx.Client(base_url=address, timeout=120) as client, tempfile.TemporaryDirectory() as name:
        path = Path(name) / "photo.jpg"
        for number, photo in enumerate(photos):
            path.write_bytes(photo)
            start = time.perf_counter()
            segmenter.segment(path)
            library = time.perf_counter() - start
            service, id = ask(client, photo)
            start = time.perf_counter()
            client.post(f"/v1/segment/{id}").raise_for_status()
            if number:  # the first one warms up
                again = time.perf_counter() - start
                for key, seconds in (("library", library), ("service", service), ("again", again)):
                    taken[key].append(seconds)
    return taken


def library_rate(segmenter: Segmenter, photos: Sequence[bytes]) -> float:
    """Photos a second of ``segment_many``."""
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{number}.jpg" for number in range(len(photos))]
        for path, photo in zip(paths, photos, strict=True):
            path.write_bytes(photo)
        start = time.perf_counter()
        for _ in segmenter.segment_many(enumerate(paths)):
            pass
        return len(paths) / (time.perf_counter() - start)


def many_clients(address: str, photos: Sequence[bytes], clients: int) -> tuple[list[float], float]:
    """Seconds of each request, and requests a second."""
    with (
        httpx.Client(base_url=address, timeout=120, limits=httpx.Limits(max_connections=clients)) as client,
        ThreadPoolExecutor(clients) as pool,
    ):
        start = time.perf_counter()
        taken = list(pool.map(lambda photo: ask(client, photo)[0], photos))
        return taken, len(photos) / (time.perf_counter() - start)


def measure(index: Path, folder: Path, *, requests: int, clients: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    photos = photos_of(folder, 3 * requests)
    with serving(index) as (pid, address), Segmenter.open(index) as segmenter:
        taken = by_turns(segmenter, address, photos[:requests])
        begun = resident(pid)
        crowd, rate = many_clients(address, photos[requests:], clients)
        ended = resident(pid)
        together = library_rate(segmenter, photos[requests:])
    added = [b - a for a, b in zip(taken["library"], taken["service"], strict=True)]
    rows = [_row("library, one photo after the other", taken["library"])]
    rows.append(_row("service, 1 client", taken["service"]))
    rows[-1]["added (ms)"] = f"{1000 * statistics.median(added):.1f}"
    rows.append(_row("service, 1 client, seen before", taken["again"]))
    rows.append(_row("library, segment_many", [], together))
    rows.append(_row(f"service, {clients} clients", crowd, rate))
    rows[-1]["memory, first and last (MB)"] = f"{begun:.0f}, {ended:.0f}"
    return rows


def _row(name: str, seconds: Sequence[float], rate: float | None = None) -> dict[str, Any]:
    def shown(value: float) -> str:
        return f"{1000 * value:.1f}"

    return {
        "what": name,
        "requests": len(seconds) or "-",
        "median (ms)": shown(statistics.median(seconds)) if seconds else "-",
        "p99 (ms)": shown(float(np.quantile(seconds, 0.99))) if seconds else "-",
        "photos a second": f"{1 / statistics.mean(seconds) if rate is None else rate:.2f}",
        "added (ms)": "-",
        "memory, first and last (MB)": "-",
    }


def main() -> None:
    """Print the table, and write it with ``--out``."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does, before torch is loaded
    parser = plain_parser(__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--requests", type=int, default=40, help="of one client; many send twice as many")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--about", default="", help="what the index is, for the notes of the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mycelia-bench-") as name:
        index = Path(shutil.copytree(arguments.index, Path(name) / "index"))
        table = measure(index, arguments.photos, requests=arguments.requests, clients=arguments.clients)
    notes = [
        *filter(None, [arguments.about]),
        "Service and clients share the machine. Each request has a photo of its own; the answer is JSON with "
        "mask and confidence. `seen before`: by id, the search alone.",
        "The machine had other work at the same time: rows taken by turns compare, single numbers do not.",
        "The cache of described photos (512 MiB at most) is what memory grows by.",
    ]
    write_table("service", table, folder=arguments.out, notes=notes, json_file=arguments.json)


if __name__ == "__main__":
    main()
