"""Picture files through a model, batch by batch, in bounded memory.

Threads decode and prepare pictures while the model computes: processes cannot be started from
within a plugin, and decoding lets go of Python's lock. At any time no more than two batches of
prepared inputs and one decoded picture per thread are in memory.
"""

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..cores import num_cores
from ..errors import UserError
from .images import Box, UnreadableImageError, crop_square, load_image
from .models import EmbeddingModel

# A vector of an object this small in pixels, on its shorter side, says little about it.
SMALL_SIDE = 8


class Picture(Protocol):
    """One file and what is wanted of it: one vector for the whole, or one for each box.

    Attributes:
        filepath: the picture file
        ids: one id for the whole picture, or the ids of its objects
        boxes: None for the whole picture, or the relative ``(x, y, width, height)`` of the objects
    """

    filepath: str
    ids: tuple[str, ...]
    boxes: tuple[Box, ...] | None


@dataclass(frozen=True)
class EmbeddedBatch:
    """What became of some pictures or objects.

    Attributes:
        vectors: finite float32 vectors of shape ``(dim,)`` by id
        failures: the reason why there is no vector, by id
        small: how many objects are less than ``SMALL_SIDE`` pixels wide or high
    """

    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    small: int = 0


def embed_pictures(
    model: EmbeddingModel, pictures: Iterable[Picture], batch_size: int | None = None
) -> Iterator[EmbeddedBatch]:
    """Embeds pictures or the objects on them.

    Every batch that the model sees has the same size (the last one is filled up), so that the
    vector of a picture does not depend on how many pictures came with it.

    Args:
        model: the model
        pictures: the files, in any order
        batch_size (None): how many inputs the model takes at once; by default what suits it

    Yields:
        an ``EmbeddedBatch`` whenever something is finished; each id is in exactly one

    Raises:
        UserError: if the device has too little memory for the batch size
    """
    batch_size = batch_size or model.batch_size
    with _short_turns():
        yield from _embedded(model, pictures, batch_size)


# What the interval was before, once for each of the runs that go on at present.
_intervals: list[float] = []
_turns_lock = threading.Lock()


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Makes threads hand on Python's lock after half a millisecond instead of five.

    A model's forward pass takes the lock some hundred times, and would wait as often behind a
    thread that opens a picture (3 % of the time of ViT-B-32 on two cores).
    """
    with _turns_lock:
        _intervals.append(_intervals[0] if _intervals else sys.getswitchinterval())
        sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        with _turns_lock:
            before = _intervals.pop()
            if not _intervals:
                sys.setswitchinterval(before)


def _embedded(
    model: EmbeddingModel, pictures: Iterable[Picture], batch_size: int
) -> Iterator[EmbeddedBatch]:
    waiting: list[tuple[str, np.ndarray]] = []
    for prepared, failures, small in _prepared(model, pictures, ahead=2 * batch_size):
        if failures or small:
            yield EmbeddedBatch(failures=failures, small=small)
        waiting += prepared
        while len(waiting) >= batch_size:
            yield _embed_batch(model, waiting[:batch_size], batch_size)
            del waiting[:batch_size]
    if waiting:
        yield _embed_batch(model, waiting, batch_size)


def _prepared(model, pictures, ahead) -> Iterator[tuple[list[tuple[str, np.ndarray]], dict, int]]:
    """Prepares inputs in threads, at most ``ahead`` inputs ahead of what is consumed."""
    pictures = iter(pictures)
    futures: deque = deque()
    in_flight = 0
    with ThreadPoolExecutor(num_cores(), "load-image") as pool:
        try:
            while True:
                while in_flight < ahead and (picture := next(pictures, None)) is not None:
                    futures.append((pool.submit(_prepare, model, picture), len(picture.ids)))
                    in_flight += len(picture.ids)
                if not futures:
                    return
                future, count = futures.popleft()
                yield future.result()
                in_flight -= count
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare(
    model: EmbeddingModel, picture: Picture
) -> tuple[list[tuple[str, np.ndarray]], dict[str, str], int]:
    whole = picture.boxes is None
    try:
        # Twice the size that the model resizes to: its own resizing then decides what it sees.
        image = load_image(picture.filepath, 2 * model.min_side if whole else 0)
    except UnreadableImageError as error:
        return [], dict.fromkeys(picture.ids, str(error)), 0
    inputs, failures, small = [], {}, 0
    for id_, box in zip(picture.ids, picture.boxes or [None]):
        try:
            inputs.append((id_, model.prepare(image if whole else crop_square(image, box))))
            small += not whole and min(box[2] * image.width, box[3] * image.height) < SMALL_SIDE
        except UnreadableImageError as error:
            failures[id_] = str(error)
        except Exception as error:  # one input that the model cannot take must not end the run
            failures[id_] = f"the model's preprocessing failed on it: {error}"
    return inputs, failures, small


def _embed_batch(model, prepared: list[tuple[str, np.ndarray]], batch_size: int) -> EmbeddedBatch:
    ids = [id_ for id_, _ in prepared]
    inputs = [array for _, array in prepared]
    try:
        vectors = model.embed(inputs + inputs[:1] * (batch_size - len(inputs)))[: len(ids)]
    except UserError:
        raise
    except Exception as error:
        if len(prepared) == 1:
            return EmbeddedBatch(failures={ids[0]: f"the model failed on it: {error}"})
        # One input that the model cannot take must not cost the others their vectors.
        singles = [_embed_batch(model, [one], 1) for one in prepared]
        return EmbeddedBatch(
            {id_: vector for single in singles for id_, vector in single.vectors.items()},
            {id_: reason for single in singles for id_, reason in single.failures.items()},
        )
    finite = np.isfinite(vectors).all(axis=1)
    return EmbeddedBatch(
        {id_: vector for id_, vector, good in zip(ids, vectors, finite) if good},
        {id_: "the model returned NaN or infinity" for id_, good in zip(ids, finite) if not good},
    )
