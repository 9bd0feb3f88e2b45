"""An index whose rows live on a Qdrant server or cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.engines.base import IndexBase, write_attached
from retrieval.engines.qdrant.by_client import decode_patch, search_by_client
from retrieval.engines.qdrant.collection import VECTOR, Collection
from retrieval.engines.qdrant.connection import server_errors
from retrieval.engines.qdrant.parameters import engine_parameters, settings_of
from retrieval.engines.qdrant.payload import (
    FOUND,
    IMAGE,
    Origin,
    Points,
    bank_fingerprint,
    pack_ids,
    point_id,
    server_payloads,
    unpack_ids,
)
from retrieval.engines.qdrant.server_search import ServerSearch
from retrieval.engines.qdrant.server_upload import upload
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.engines.spec import no_multiplicity
from retrieval.errors import ConfigError, IndexMismatchError
from retrieval.json_text import parse_json
from retrieval.neighbors import Filter, Neighbors, Rows
from retrieval.progress import Progress, track
from retrieval.store.commit import IndexFiles
from retrieval.store.files import storage_errors
from retrieval.store.layout import CHANGE_LOCK, FEATURES, IMAGES
from retrieval.store.lock import Lock
from retrieval.store.manifest import Manifest, read_manifest
from retrieval.store.records import ImageRecord

#: Files in the collection that tell which shares of a parallel build are done, and their lists of images.
SHARES, IMAGE_PARTS = "shards/", "images/"

#: Bytes of a point in an upload besides its vector and label, generously.
_POINT_BYTES = 400


class ServerIndex(IndexBase):
    """A PatchIndex in a collection; see ``PatchIndex``. Rows are on the server as soon as they are added.

    ``add`` is idempotent: a point's id is a function of image, recipe and position. ``folder``
    holds the manifest and whatever else reading needs, but no vectors.
    """

    forks = False

    def __init__(
        self,
        files: IndexFiles,
        manifest: Manifest,
        collection: Collection,
        *,
        share: tuple[int, int] | None = None,
    ) -> None:
        """Use :meth:`create` or :meth:`open`."""
        super().__init__(files.folder, manifest)
        self._files = files
        self.collection = collection
        self._settings = collection.settings
        self._fingerprint = bank_fingerprint(manifest)
        self._origins: dict[int, Origin] = {}
        self._live: int | None = None
        self._loading = self._resumed = self._changing = False
        self._search = ServerSearch(collection)
        self._share = share

    @classmethod
    def create(
        cls,
        files: IndexFiles,
        manifest: Manifest,
        settings: QdrantSettings,
        *,
        share: tuple[int, int] | None = None,
        client: Any = None,
    ) -> ServerIndex:
        """A collection for a new index, or the unfinished one of the same build.

        ``share`` is (number, of) where this is one of several builders. Raises ConfigError without a
        collection's name, IndexMismatchError where another bank has
        that name, MissingExtraError and ServerError.
        """
        collection = open_collection(settings, manifest, client=client)
        index = cls(files, replace(manifest, engine=engine_parameters(settings)), collection, share=share)
        index._loading, index._resumed = True, len(index) > 0
        return index

    @classmethod
    def open(cls, files: IndexFiles, manifest: Manifest, *, client: Any = None) -> ServerIndex:
        """The index that a folder's manifest describes.

        Raises IndexFileError where the collection is gone, IndexMismatchError where another bank
        has taken its name, IndexDamagedError and ServerError.
        """
        collection = Collection(settings_of(manifest), client=client)
        try:
            collection.check(manifest.similarity.width)
            stored = collection.read_manifest()
            if stored is None or bank_fingerprint(stored[0]) != bank_fingerprint(manifest):
                raise IndexMismatchError(
                    f"the collection {collection.name!r} at {collection.settings.url} is no longer the one "
                    f"that {files.folder} was built with; build the index again, or open the "
                    "collection by its address"
                )
            manifest = replace(
                manifest,
                counts=stored[0].counts or manifest.counts,
                classes=stored[0].classes,
                fitted_classes=stored[0].fitted_classes,
            )
        except BaseException:
            collection.close()
            raise
        return cls(files, manifest, collection)

    def __len__(self) -> int:
        """Patches in the collection, as the server counts them; asked once and after each change."""
        if self._live is None:
            self._live = self.collection.count_patches()
        return self._live

    def announce(self, images: Sequence[ImageRecord]) -> None:
        """Tell of images before their rows are added: the point ids are made from their records."""
        self._origins.update(
            {record.number: Origin(record.id, record.sha256, record.epoch) for record in images}
        )
        # what an earlier run uploaded of them may be of files that have changed since
        if self._resumed or not self._loading:
            self._delete([record.number for record in images])

    def add(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        patches: npt.NDArray[np.int32],
        *,
        multiplicity: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Upload rows, replacing those that are there already; returns their ids (n,) int64.

        Images that were not described are identified by their number. What was uploaded before an
        error stays; adding the same rows again completes it. Raises ConfigError for a multiplicity other
        than 1, which the payload has no place for.
        """
        self._check_rows(vectors, labels, patches, multiplicity)
        if multiplicity is not None and (multiplicity != 1).any():
            raise no_multiplicity("a Qdrant server")
        ids = pack_ids(patches)
        step = self._points_per_request()
        self._live = None
        self._begin_change()
        blocks = (slice(start, start + step) for start in range(0, len(vectors), step))
        upload(self.collection, (self._points(vectors[rows], labels[rows], patches[rows]) for rows in blocks))
        return ids

    def search(self, queries: npt.NDArray[np.float32], k: int, *, filter: Filter | None = None) -> Neighbors:
        """The ``k`` nearest rows of queries (Q, D) float32 that ``filter`` lets through."""
        k = self._check_queries(queries, k)
        chosen, classes = filter or Filter(), len(self.classes)
        if not self.collection.speaks_grpc:
            return search_by_client(self.collection, queries, k, chosen, classes=classes)
        counts = self._manifest.counts
        rows = counts.get("rows", 0) - counts.get("removed", 0)
        return self._search.find(queries, k, chosen, classes=classes, rows=rows)

    def patches(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image number, grid row and grid column of rows: (...) int64 -> (..., 3) int32; -1 for the id -1."""
        self._check_open()
        return unpack_ids(np.asarray(ids, dtype=np.int64))

    def remove(self, image: int) -> int:
        """Remove every row of an image number, at once and for good; returns how many."""
        self._check_open()
        count = self._delete([int(image)])
        counts = dict(self._manifest.counts)
        counts["removed"] = counts.get("removed", 0) + count
        self._manifest = replace(self._manifest, counts=counts)
        return count

    def relabel(self, classes: ClassMap, columns: npt.NDArray[np.int64]) -> None:
        """Take other names and more classes; raises ConfigError where labels would have to be rewritten.

        Every point has its label, and they cannot all be changed in one step.
        """
        self._check_open()
        if (columns != np.arange(len(columns))).any():
            raise ConfigError(
                "classes on a Qdrant server cannot become one, since its labels cannot change in one step; "
                "convert the index to faiss (`mycelia index convert`), relabel that, and convert it back"
            )
        self._manifest = self._manifest.with_classes(classes)

    def _delete(self, images: list[int]) -> int:
        """Delete the patches of image numbers; how many there were."""
        m = self.collection.models
        condition = m.Filter(must=[m.FieldCondition(key=IMAGE, match=m.MatchAny(any=images))])
        count = self.collection.count(condition)
        if count:
            self._begin_change()
            with server_errors(self._settings):
                selector = m.FilterSelector(filter=condition)
                self.collection.client.delete(self.collection.name, selector, wait=True)
        self._live = None
        return count

    def stream(self, *, batch: int = 4096) -> Iterator[Rows]:
        """All rows by rising id, about ``batch`` at a time (whole images)."""
        self._check_open()
        name = self.collection.name
        with server_errors(self._settings):
            hits = self.collection.client.facet(name, key=IMAGE, limit=len(self) + 1, exact=True).hits
        group: list[int] = []
        rows = 0
        for hit in sorted(hits, key=lambda hit: int(hit.value)):
            if group and rows + hit.count > batch:
                yield self._rows_of(group)
                group, rows = [], 0
            group.append(int(hit.value))
            rows += hit.count
        if group:
            yield self._rows_of(group)

    def flush(
        self,
        *,
        images: Sequence[ImageRecord] | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Keep the manifest, the list of images and the features in the collection, and in the folder.

        After loading, the graph is switched on and waited for, unless this is one share of several that
        are not all done; ``progress`` hears of vectors in the graph.
        """
        self._check_open()
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        changes = write_attached(self._files, images, thumbnails)
        self._upload_files(changes.get(IMAGES))
        complete = self._count_rows(images)
        if complete and self._loading:
            self._finish(progress)
        self.collection.write_manifest(self._manifest, complete=complete)
        if complete and self._changing:
            self.collection.announce(changing=False)
            self._changing = False
        self._manifest = self._files.commit(self._manifest, changes)

    def refresh(self) -> bool:
        """Take over the list of images and the classes; rows are found where they are. See ``PatchIndex``."""
        from retrieval.engines.qdrant.locate import refresh_folder

        self._check_open()
        stored, mine = self.collection.read_manifest(), self._manifest
        if stored is None or (stored[0].counts, stored[0].classes) == (mine.counts, mine.classes):
            return False
        lock = Lock(self.folder / CHANGE_LOCK)
        lock.acquire(f"refresh {self.folder}")
        try:
            refresh_folder(self.folder)
        finally:
            lock.release()
        newest = read_manifest(self.folder)
        self._files, self._live = IndexFiles(self.folder, newest), None
        self._manifest = replace(newest, counts=stored[0].counts)
        return True

    def _finish(self, progress: Progress | None) -> None:
        """Switch the graph on and wait for it."""
        with track(progress, "graph", max(1, len(self))) as task:
            known = 0

            def report(done: int, total: int) -> None:
                nonlocal known
                task.advance(max(0, done - known))
                known = max(known, done)

            self.collection.finish(report)
        self._loading = False

    def _release(self) -> None:
        self._files.discard()
        self.collection.close()

    def _points_per_request(self) -> int:
        each = 4 * self.similarity.width + 2 * len(self.classes) + _POINT_BYTES
        return max(1, min(self._settings.batch_points, self._settings.batch_bytes // each))

    def _points(
        self, vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8], patches: npt.NDArray[np.int32]
    ) -> Points:
        origins = [
            self._origins.get(number) or Origin(f"image {number}", "", 0) for number in patches[:, 0].tolist()
        ]
        positions = zip(origins, patches[:, 1:].tolist(), strict=True)
        ids = [point_id(self._fingerprint, origin, row, col) for origin, (row, col) in positions]
        dataset = str(self._manifest.dataset.get("name", ""))
        return Points(ids, vectors, server_payloads(labels, patches, origins, dataset))

    def _begin_change(self) -> None:
        """Tell readers, before anything changes, that what they know of rows may not hold."""
        self.collection.announce(changing=True)
        self._changing = True

    def _rows_of(self, images: list[int]) -> Rows:
        m = self.collection.models
        condition = m.Filter(must=[m.FieldCondition(key=IMAGE, match=m.MatchAny(any=images))])
        points = list(self.collection.scroll(condition, vectors=True, payload=FOUND))
        decoded = [decode_patch(self.collection, point.payload, len(self.classes)) for point in points]
        patches = np.array([place for place, _ in decoded], dtype=np.int32).reshape(len(points), 3)
        labels = np.array([label for _, label in decoded], dtype=np.uint8).reshape(-1, len(self.classes))
        vectors = np.array([point.vector[VECTOR] for point in points], dtype=np.float32)
        ids = pack_ids(patches)
        order = np.argsort(ids)
        return Rows(ids[order], vectors[order], labels[order], patches[order])

    def _upload_files(self, images: Path | None) -> None:
        """Keep what a reader needs in the collection: the features and the list of images."""
        features = self._files.current(FEATURES)
        if features.is_file():
            self.collection.put_file(FEATURES, features.read_bytes(), first_wins=self._share is not None)
        if images is None:
            return
        if self._share is None:
            self.collection.put_file(IMAGES, images.read_bytes())
            self.collection.delete_files(IMAGE_PARTS)
        else:
            self.collection.put_file(IMAGE_PARTS + _share_name(self._share) + ".jsonl", images.read_bytes())

    def _count_rows(self, images: Sequence[ImageRecord] | None) -> bool:
        """Fill in the manifest's counts; False while shares of a parallel build are missing."""
        counts = {"removed": 0, **self._manifest.counts}
        if self._share is None:
            counts["rows"] = len(self) + counts["removed"]
            self._manifest = replace(self._manifest, counts=counts)
            return True
        if images is not None:
            own = {"rows": sum(record.patches for record in images), "images": len(images)}
            self.collection.put_file(SHARES + _share_name(self._share) + ".json", json.dumps(own).encode())
        done = [parse_json(self.collection.get_file(file.name)) for file in self.collection.files(SHARES)]
        for name in ("rows", "images"):
            counts[name] = sum(int(share[name]) for share in done)
        self._manifest = replace(self._manifest, counts=counts)
        return len(done) == self._share[1]


def open_collection(settings: QdrantSettings, manifest: Manifest, *, client: Any = None) -> Collection:
    """The collection of a bank under construction, made where it is not there yet.

    Raises ConfigError without a collection's name, IndexMismatchError where another bank has it.
    """
    if not settings.collection:
        raise ConfigError("a Qdrant server needs a name for the data: set index.qdrant.collection=NAME")
    collection = Collection(settings, client=client)
    try:
        collection.create(manifest.similarity.width, replace(manifest, engine=engine_parameters(settings)))
    except BaseException:
        collection.close()
        raise
    return collection


def _share_name(share: tuple[int, int]) -> str:
    return f"{share[0]:05d}-of-{share[1]:05d}"
