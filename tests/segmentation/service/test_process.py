"""The service as a process of its own: it starts, is killed while it writes, and stops when asked."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from retrieval.folder import IndexFolder

from .conftest import encoded, half_mask, picture

ROOT = Path(__file__).parents[3]


@contextmanager
def running(index: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A service on a free port, and a client for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from segmentation.cli import main; main()", "serve", str(index)]
    process = subprocess.Popen(
        [*command, "--port", str(port), *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: process.poll() is not None or is_ready(client))
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process, client
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def add(client: httpx.Client, name: str, seed: int) -> httpx.Response:
    files = {"image": encoded(picture(seed)), "mask": encoded(half_mask())}
    return client.post("/v1/images", files=files, data={"name": name})


@pytest.mark.parametrize("wait", [0.15, 0.4])
def test_a_killed_service_loses_no_image_that_it_acknowledged(index: Path, wait: float) -> None:
    acknowledged: list[str] = []
    with running(index) as (process, client):

        def write() -> None:
            for number in range(500):
                try:
                    if add(client, f"w{number}", number).status_code == 201:
                        acknowledged.append(f"w{number}")
                except httpx.TransportError:
                    return

        writer = threading.Thread(target=write)
        writer.start()
        wait_for(lambda: len(acknowledged) >= 2)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        writer.join()
    assert len(acknowledged) >= 2
    folder = IndexFolder.open(index)
    assert folder.verify() is not None
    kept = {record.id for record in folder.records}
    assert set(acknowledged) <= kept
    assert len(kept - set(acknowledged)) <= 3 + 1  # the build's own, and one whose answer was lost
    with running(index) as (_, client):  # and it goes on
        assert client.get("/v1/index").json()["images"] == len(kept)
        assert add(client, "after", 9).status_code == 201


def test_it_stops_when_it_is_asked_to_and_logs_json(index: Path) -> None:
    with running(index, "--log-json") as (process, client):
        assert client.post("/v1/segment", files={"image": encoded(picture(5))}).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(60) in (0, -signal.SIGTERM)
    line = next(line for line in said.splitlines() if "/v1/segment" in line)
    assert re.search(r'"level": "info".*"status": 200, "milliseconds": [\d.]+', line), said
    assert "Traceback" not in said
    assert not list(index.glob("*.lock"))
