"""The stored vectors of a target as one matrix, and what identifies them."""

import hashlib
import io
import logging
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId

from ..errors import UserError
from .targets import Target

logger = logging.getLogger(__name__)

# Documents asked for at once.
BATCH = 10_000


@dataclass(frozen=True)
class VectorSet:
    """Vectors in the order of the ids of their samples or objects.

    Attributes:
        ids: ids of the samples or objects
        sample_ids: the sample of each
        matrix: ``(num_ids, dim)`` float32, finite
        skipped: how many of the target have no vector here, by reason
    """

    ids: tuple[str, ...]
    sample_ids: tuple[str, ...]
    matrix: np.ndarray
    skipped: dict[str, int]

    def take(self, chosen: np.ndarray) -> "VectorSet":
        """Those where ``chosen``, ``(num_ids,)`` bool, is true."""
        rows = np.flatnonzero(chosen)
        ids, sample_ids = (
            tuple(names[row] for row in rows) for names in (self.ids, self.sample_ids)
        )
        return VectorSet(ids, sample_ids, self.matrix[rows], self.skipped)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the ids and the vectors: equal for equal vectors of the same things."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(" ".join(self.ids).encode())
        digest.update(str(self.matrix.shape).encode())
        digest.update(np.ascontiguousarray(self.matrix))
        return digest.hexdigest()


def read_vectors(target: Target, embeddings: str) -> VectorSet:
    """Reads the vectors of a target.

    Fields that FiftyOne or the user filled are read as well as the plugin's own.

    Args:
        target: the samples or objects
        embeddings: the field of their vectors

    Returns:
        a ``VectorSet``; what has no vector, or one with NaN or infinity, is skipped and counted

    Raises:
        UserError: if there is no such field, or no vectors in it, or not of one length
    """
    path = target.path(embeddings)
    field = target.view.get_field(path)
    way_out = f"run compute_embeddings(embeddings={embeddings!r}) first"
    mend = (
        f"choose another field, or, if this plugin filled it, run compute_embeddings(embeddings="
        f"{embeddings!r}, overwrite=True)"
    )
    if field is None:
        names = ", ".join(vector_fields(target)) or "none"
        raise UserError(
            f"embeddings={embeddings!r}: there is no such field on the {target.things}; {way_out}, "
            f"or choose one of the fields with vectors: {names}"
        )
    if not _is_vector_field(field):
        names = ", ".join(vector_fields(target)) or "none"
        raise UserError(
            f"embeddings={embeddings!r} is of type {type(field).__name__}, not vectors; fields "
            f"with vectors: {names}"
        )
    rows = _read_raw(target, embeddings) if isinstance(field, fo.VectorField) else None
    if rows is None:
        rows = _read_values(target, embeddings)

    total = len(target.ids())
    if any(vector.ndim != 1 for _, vector in rows.values()):
        raise UserError(f"embeddings={embeddings!r} holds arrays that are not vectors")
    lengths = Counter(len(vector) for _, vector in rows.values())
    if not rows:
        raise UserError(
            f"The field {embeddings!r} holds no vectors for the {total:,} {target.things} of this "
            f"view; {way_out}"
        )
    if len(lengths) > 1:
        counts = ", ".join(f"{count:,} of length {dim}" for dim, count in lengths.most_common())
        raise UserError(
            f"The field {embeddings!r} holds vectors of several models ({counts}); {mend}"
        )
    skipped = Counter()
    if total > len(rows):
        skipped["no vector"] = total - len(rows)
    ids = sorted(rows)
    matrix = np.stack([rows[id_][1] for id_ in ids]).astype(np.float32, copy=False)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        skipped["vector with NaN or infinity"] = int((~finite).sum())
        ids = [id_ for id_, good in zip(ids, finite) if good]
        matrix = matrix[finite]
    if not ids:
        raise UserError(f"All vectors in {embeddings!r} hold NaN or infinity; {mend}")
    return VectorSet(tuple(ids), tuple(rows[id_][0] for id_ in ids), matrix, dict(skipped))


def vector_fields(target: Target) -> list[str]:
    """The names of the fields of a target that hold vectors."""
    schema = target.view.get_field_schema(flat=True)
    root = target.root
    return [
        path.removeprefix(root)
        for path, field in schema.items()
        if isinstance(field, fo.VectorField)
        and path.startswith(root)
        and "." not in path.removeprefix(root)
    ]


def _is_vector_field(field: Any) -> bool:
    if isinstance(field, (fo.VectorField, fo.ArrayField)):
        return True
    return isinstance(field, fo.ListField) and isinstance(
        field.field, (fo.FloatField, fo.IntField, type(None))
    )


Rows = dict[str, tuple[str, np.ndarray]]


def _read_values(target: Target, embeddings: str) -> Rows:
    """By FiftyOne's own call: the sample's id and the vector, by id."""
    path = target.path(embeddings)
    if target.patches_field is None:
        ids, vectors = target.view.values(["id", path])
        return {id_: (id_, np.asarray(v)) for id_, v in zip(ids, vectors) if v is not None}
    wanted = set(target.ids())
    rows: Rows = {}
    columns = target.view.values(["id", target.path("id"), path])
    for sample_id, object_ids, vectors in zip(*columns):
        if isinstance(object_ids, str):
            object_ids, vectors = [object_ids], [vectors]
        for id_, vector in zip(object_ids or (), vectors or ()):
            if vector is not None and id_ in wanted:
                rows[id_] = (sample_id, np.asarray(vector))
    return rows


def _read_raw(target: Target, embeddings: str) -> Rows | None:
    """By the stored bytes, six times faster, or None where they are not as expected.

    FiftyOne decodes every document into Python objects; here only the vectors' bytes are asked
    for, and NumPy's header is parsed once.
    """
    try:
        collection = target.view._dataset._sample_collection
        parser = _ArrayParser()
        wanted = set(target.ids())
        sample_ids = target.view.values("id")
        # The fields as they are called in the database.
        path = f"{target.root}{embeddings}"
        id_path = f"{target.root}_id"
        rows: Rows = {}
        for start in range(0, len(sample_ids), BATCH):
            batch = [ObjectId(id_) for id_ in sample_ids[start : start + BATCH]]
            query = {"_id": {"$in": batch}}
            for document in collection.find(query, {path: True, id_path: True}):
                sample_id = str(document["_id"])
                for id_, value in _values_in(document, target.root, embeddings):
                    if value is not None and id_ in wanted:
                        rows[id_] = (sample_id, parser.parse(value))
        return rows
    except Exception:
        logger.debug("Reading raw vectors failed; FiftyOne's own call is used", exc_info=True)
        return None


def _values_in(document: dict, root: str, name: str) -> list[tuple[str, Any]]:
    value = document
    for part in filter(None, root.split(".")):
        value = (value or {}).get(part)
    things = value if isinstance(value, list) else [value] if value else []
    return [(str(thing["_id"]), thing.get(name)) for thing in things]


class _ArrayParser:
    """zlib-compressed ``.npy`` bytes to arrays; a header that came before is not parsed again."""

    def __init__(self) -> None:
        self._headers: dict[bytes, tuple[np.dtype, int]] = {}

    def parse(self, value: bytes) -> np.ndarray:
        data = zlib.decompress(value)
        length = 10 + int.from_bytes(data[8:10], "little")
        header = data[:length]
        if header in self._headers:
            return np.frombuffer(data, self._headers[header], offset=length)
        array = np.load(io.BytesIO(data), allow_pickle=False)
        if array.ndim == 1 and data[6] == 1:
            self._headers[header] = array.dtype
        return array
