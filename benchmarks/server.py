"""What a search on a Qdrant server costs besides the server's own time, and what an upload costs the client.

    python -m benchmarks.server --out benchmarks/results

The server is a stub: a process of its own that speaks gRPC on the loopback interface, answers with made-up
hits, and takes for each query the time that a real server took (``--own``, ``--own-payload``). The same
photos are asked about by turns: through qdrant-client's models with payloads, as it was, and in gRPC's own
messages, with and without the table of labels.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc as q

from benchmarks.command import plain_parser
from benchmarks.report import write_table
from retrieval import Filter
from retrieval.engines.qdrant.by_client import search_by_client, upload_by_client
from retrieval.engines.qdrant.collection import Collection
from retrieval.engines.qdrant.payload import Origin, Points, point_id, server_payloads
from retrieval.engines.qdrant.server_search import ServerSearch
from retrieval.engines.qdrant.server_upload import upload
from retrieval.engines.qdrant.settings import QdrantSettings

grpc: Any = importlib.import_module("grpc")

K, GRID, CLASSES = 30, 37, 21

#: Different answers that the stub has.
_ANSWERS = 4000

#: What the stub counts.
_COUNTERS = ("calls", "bytes in", "bytes out")


def bank_rows(numbers: npt.NDArray[np.int64]) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids and payloads of rows of the made-up bank, by their numbers; most patches have one class."""
    rng = np.random.default_rng(0)
    kinds = np.zeros((997, CLASSES), dtype=np.uint8)
    kinds[np.arange(997), rng.integers(0, CLASSES, 997)] = 255
    mixed = np.arange(997) % 3 == 0
    kinds[mixed] = rng.integers(0, 256, (int(mixed.sum()), CLASSES)) // 2
    images, places = np.divmod(numbers, GRID * GRID)
    patches = np.stack([images, places // GRID, places % GRID], axis=1).astype(np.int32)
    origins = [Origin(f"photo {image}", f"{image:064x}", 0) for image in images.tolist()]
    ids = [
        point_id("bank", origin, row, col)
        for origin, (_, row, col) in zip(origins, patches.tolist(), strict=True)
    ]
    return ids, server_payloads(kinds[numbers % 997], patches, origins, "made up")


class Stub:
    """The server: ready answers, and the time that they take; one request after the other, as one core."""

    def __init__(self, rows: int, own: float, own_payload: float, counters: Any) -> None:
        self._own, self._own_payload, self._counters = own, own_payload, counters
        self._lock, self._asked = Lock(), 0
        ids, payloads = bank_rows(np.arange(rows))
        shown = ("image", "row", "col", "label")
        points = [
            q.RetrievedPoint(id=q.PointId(uuid=id), payload=_values({name: one[name] for name in shown}))
            for id, one in zip(ids, payloads, strict=True)
        ]
        self._points = {point.id.uuid: q.GetResponse(result=[point]).SerializeToString() for point in points}
        rng = np.random.default_rng(1)
        found = [rng.choice(rows, K, replace=False).tolist() for _ in range(_ANSWERS)]
        scores = np.sort(rng.random((_ANSWERS, K)))[:, ::-1].tolist()
        self._answers = {
            payload: [_answer(points, *one, payload=payload) for one in zip(found, scores, strict=True)]
            for payload in (False, True)
        }

    def query(self, request: bytes, context: object) -> bytes:
        """Hits of as many queries as are asked: messages of one field follow each other."""

        def work() -> tuple[bytes, float]:
            asked = q.QueryBatchPoints.FromString(request).query_points
            payload = asked[0].with_payload.HasField("include")
            first, self._asked = self._asked, self._asked + len(asked)
            answers = self._answers[payload]
            answer = b"".join(answers[(first + i) % _ANSWERS] for i in range(len(asked)))
            return answer, len(asked) * (self._own_payload if payload else self._own)

        return self._work(work, request)

    def get(self, request: bytes, context: object) -> bytes:
        """Payloads of points; a point costs what it costs in a query."""

        def work() -> tuple[bytes, float]:
            ids = q.GetPoints.FromString(request).ids
            answer = b"".join(self._points.get(id.uuid, b"") for id in ids)
            return answer, len(ids) * (self._own_payload - self._own) / K

        return self._work(work, request)

    def upsert(self, request: bytes, context: object) -> bytes:
        """Nothing is kept, and it takes no time: what is left is the client's."""
        done = q.UpdateResult(operation_id=1, status=q.UpdateStatus.Completed)
        answer = q.PointsOperationResponse(result=done).SerializeToString()
        return self._work(lambda: (answer, 0.0), request)

    def _work(self, work: Callable[[], tuple[bytes, float]], request: bytes) -> bytes:
        """The answer of ``work``, after as many seconds as it says, its own included."""
        with self._lock:
            start = time.perf_counter()
            answer, own = work()
            for place, amount in enumerate((1, len(request), len(answer))):
                self._counters[place] += amount
            time.sleep(max(0.0, start + own - time.perf_counter()))
        return answer


def _values(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        name: q.Value(string_value=value) if isinstance(value, str) else q.Value(integer_value=value)
        for name, value in payload.items()
    }


def _answer(points: Sequence[Any], found: list[int], scores: list[float], *, payload: bool) -> bytes:
    hits = [
        q.ScoredPoint(
            id=points[number].id, payload=points[number].payload if payload else {}, score=score, version=3
        )
        for number, score in zip(found, scores, strict=True)
    ]
    return bytes(q.QueryBatchResponse(result=[q.BatchResult(result=hits)]).SerializeToString())


def serve(port: Any, rows: int, own: float, own_payload: float, counters: Any) -> None:
    """Run the stub in this process, for good; ``port`` is set when it is ready."""
    stub = Stub(rows, own, own_payload, counters)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    methods = {"QueryBatch": stub.query, "Get": stub.get, "Upsert": stub.upsert}
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("qdrant.Points", handlers),))
    port.value = server.add_insecure_port("127.0.0.1:0")
    server.start()
    server.wait_for_termination()


def searches(collection: Collection, rows: int) -> dict[str, Callable[[Any], Any]]:
    """The ways to ask, by name; a search's table lasts as long as it does."""

    def by_client(queries: npt.NDArray[np.float32]) -> Any:
        return search_by_client(collection, queries, K, Filter(), classes=CLASSES)

    def by(settings: QdrantSettings) -> Callable[[Any], Any]:
        search = ServerSearch(Collection(settings, client=collection.client))
        return lambda queries: search.find(queries, K, Filter(), classes=CLASSES, rows=rows)

    chosen = collection.settings
    return {
        "qdrant-client's models, payload with each hit (before)": by_client,
        "gRPC's messages, payload with each hit": by(chosen.model_copy(update={"label_table": 0})),
        "gRPC's messages, table of labels": by(chosen),
    }


def measure_searches(
    collection: Collection, rows: int, photos: int, counters: Any, own: Sequence[float]
) -> list[dict[str, Any]]:
    """Rows of the table: photos of 37 x 37 patches by turns, the first one on its own."""
    rng = np.random.default_rng(2)
    taken: dict[str, list[list[float]]] = {}
    ways = searches(collection, rows)
    for number in range(photos + 1):
        queries = rng.standard_normal((GRID * GRID, 384)).astype(np.float32)
        for name, find in ways.items():
            before, start = list(counters), time.perf_counter()
            find(queries)
            seconds = time.perf_counter() - start
            counted = [after - old for after, old in zip(counters, before, strict=True)]
            stage = "first photo" if number == 0 else f"{photos} more"
            taken.setdefault(f"{name}; {stage}", []).append([seconds, *counted])
    made = []
    for name, values in taken.items():
        seconds, calls, sent, received = np.array(values).mean(axis=0) / (GRID * GRID)
        server = own[0] if "table" in name else own[1]
        made.append(
            {
                "what": name,
                "ms a query": f"{1000 * seconds:.3f}",
                "server's own (ms)": f"{1000 * server:.2f}",
                "times the server's": f"{seconds / server:.2f}",
                "calls a photo": f"{calls * GRID * GRID:.0f}",
                "sent (bytes a query)": f"{sent:.0f}",
                "received (bytes a query)": f"{received:.0f}",
                "rows a second": "-",
            }
        )
    return made


def measure_uploads(collection: Collection, width: int, counters: Any) -> list[dict[str, Any]]:
    """Rows of the table: 20 images, ids and payloads included, into a server that takes no time."""
    vectors = np.random.default_rng(3).standard_normal((GRID * GRID, width)).astype(np.float32)

    def blocks() -> Iterator[Points]:
        step = min(collection.settings.batch_points, collection.settings.batch_bytes // (4 * width + 442))
        for image in range(20):
            for start in range(0, len(vectors), step):
                block = vectors[start : start + step]
                ids, payloads = bank_rows(np.arange(start, start + len(block)) + image * len(vectors))
                yield Points(ids, block, payloads)

    def by_client() -> None:
        for block in blocks():
            upload_by_client(collection, block)

    made = []
    ways: dict[str, Callable[[], None]] = {
        f"upload of {width} numbers, qdrant-client's models (before)": by_client,
        f"upload of {width} numbers, gRPC's messages": lambda: upload(collection, blocks()),
    }
    for name, send in ways.items():
        before, start = list(counters), time.perf_counter()
        send()
        seconds, count = time.perf_counter() - start, 20 * len(vectors)
        made.append(
            {
                "what": name,
                "ms a query": "-",
                "server's own (ms)": "-",
                "times the server's": "-",
                "calls a photo": f"{(counters[0] - before[0]) / 20:.0f}",
                "sent (bytes a query)": f"{(counters[1] - before[1]) / count:.0f} a row",
                "received (bytes a query)": "-",
                "rows a second": f"{count / seconds:.0f}",
            }
        )
    return made


def main() -> None:
    """Print the table, and write it with ``--out``."""
    parser = plain_parser(__doc__)
    parser.add_argument("--rows", type=int, default=110_100)
    parser.add_argument("--photos", type=int, default=5)
    parser.add_argument(
        "--own", type=float, default=0.18, help="ms of the server for a query without payload"
    )
    parser.add_argument("--own-payload", type=float, default=0.42, help="the same with payload")
    parser.add_argument("--query-batch", type=int, default=QdrantSettings().query_batch)
    parser.add_argument("--width", type=int, default=768, help="numbers of an uploaded vector")
    arguments = parser.parse_args()
    own = (arguments.own / 1000, arguments.own_payload / 1000)
    spawn = multiprocessing.get_context("spawn")
    counters, port = spawn.Array("q", len(_COUNTERS)), spawn.Value("i", 0)
    process = spawn.Process(target=serve, args=(port, arguments.rows, *own, counters), daemon=True)
    process.start()
    try:
        while not port.value:
            time.sleep(0.1)
        settings = QdrantSettings(
            url="http://127.0.0.1:6333",
            grpc_port=port.value,
            collection="bank",
            query_batch=arguments.query_batch,
        )
        collection = Collection(settings)
        collection.state()  # which connects
        table = measure_searches(collection, arguments.rows, arguments.photos, counters, own)
        table += measure_uploads(collection, arguments.width, counters)
        collection.close()
    finally:
        process.terminate()
        process.join()
    notes = [
        "No Qdrant answered: a stub on the loopback interface gave made-up hits, 30 a query at random of "
        f"{arguments.rows} rows (each photo's are others than the last one's), and took the time of a real "
        f"server, {arguments.own} ms a query without payload and {arguments.own_payload} ms with it, one "
        "request at a time; a fetched payload took what it adds to a query. Uploads cost the stub nothing.",
        "Stub and client share the machine's cores. The ways take turns, photo by photo of 1369 queries of "
        f"384 numbers, {arguments.query_batch} queries a request. The table of labels is empty at the first "
        "photo, whose fetched payloads are not in the server's own time here.",
    ]
    write_table("server", table, folder=arguments.out, notes=notes, json_file=arguments.json)


if __name__ == "__main__":
    main()
