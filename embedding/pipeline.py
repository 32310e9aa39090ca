"""Image files through a model, batch by batch, in bounded memory.

Each thread decodes a batch of images and then computes it by itself: threads that share a batch
wait for one another after each layer, the longer the busier the machine is. Processes cannot be
started from within a plugin, and decoding and computing let go of Python's lock. At any time one
batch of prepared inputs and one decoded image per thread are in memory.
"""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..cores import num_cores
from ..pictures.images import Box, UnreadableImageError, crop_square, load_image
from ..process import short_turns, use_one_torch_thread
from .identity import EmbeddingModel

# An embedding of an object this small in pixels, on its shorter side, says little about it.
SMALL_SIDE = 8


class ImageInput(Protocol):
    """One file and what is wanted of it: one embedding for the whole, or one for each box."""

    @property
    def filepath(self) -> str:
        """The image file."""

    @property
    def ids(self) -> tuple[str, ...]:
        """One id for the whole image, or the ids of its patches."""

    @property
    def boxes(self) -> tuple[Box, ...] | None:
        """None for the whole image, or the relative ``(x, y, width, height)`` of the patches."""


@dataclass(frozen=True)
class EmbeddedBatch:
    """What became of some images or objects.

    Attributes:
        vectors: finite float32 embeddings of shape ``(dim,)`` by id
        failures: the reason why there is no embedding, by id
        small: how many objects are less than ``SMALL_SIDE`` pixels wide or high
        notes: what a user should know of how an image was read, by the ids of its embeddings
    """

    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    small: int = 0
    notes: dict[str, str] = field(default_factory=dict)


def embed_images(
    model: EmbeddingModel,
    images: Iterable[ImageInput],
    batch_size: int | None = None,
    num_threads: int | None = None,
) -> Iterator[EmbeddedBatch]:
    """Embeds images or the objects on them.

    Batches have the same size, so that the embedding of an image does not depend on how many came
    with it: the last one of a thread is filled up, to the size that suits the model at most, for
    what a large batch lacks would cost as much as what it holds.

    Args:
        model: the model
        images: the files, in any order
        batch_size (None): how many inputs the model takes at once; by default what suits it
        num_threads (None): by default one for each core

    Yields:
        an ``EmbeddedBatch`` whenever something is finished; each id is in exactly one
    """
    batch_size = batch_size or model.batch_size
    with short_turns():
        yield from _embedded(model, images, batch_size, num_threads or num_cores())


def _embedded(
    model: EmbeddingModel, images: Iterable[ImageInput], batch_size: int, num_threads: int
) -> Iterator[EmbeddedBatch]:
    shared = _Shared(iter(images), queue.Queue(2 * num_threads))
    workers = [
        threading.Thread(target=_work, args=(model, shared, batch_size), name="embed", daemon=True)
        for _ in range(num_threads)
    ]
    for worker in workers:
        worker.start()
    try:
        working = num_threads
        while working:
            result = shared.results.get()
            if result is None:
                working -= 1
            elif isinstance(result, EmbeddedBatch):
                yield result
            else:
                raise result
    finally:
        shared.stop.set()
        for worker in workers:
            while worker.is_alive():
                with contextlib.suppress(queue.Empty):
                    shared.results.get(timeout=0.01)


@dataclass(frozen=True)
class _Shared:
    """What the threads take images from and put results into."""

    images: Iterator[ImageInput]
    results: queue.Queue
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def take(self, number: int) -> list[ImageInput]:
        """The next images, for that number of inputs or a little more."""
        taken: list[ImageInput] = []
        with self.lock:
            while number > 0 and not self.stop.is_set():
                if (image := next(self.images, None)) is None:
                    break
                taken.append(image)
                number -= len(image.ids)
        return taken


def _work(model: EmbeddingModel, shared: _Shared, batch_size: int) -> None:
    if model.parallel:
        use_one_torch_thread()
    turn = contextlib.nullcontext() if model.parallel else shared.turn

    def embed(prepared: list[tuple[str, np.ndarray]]) -> None:
        with turn:
            batch = _embed_batch(model, prepared, batch_size)
        shared.results.put(batch)

    try:
        waiting: list[tuple[str, np.ndarray]] = []
        while images := shared.take(batch_size - len(waiting)):
            for image in images:
                prepared, besides = _prepare(model, image)
                if besides != EmbeddedBatch():
                    shared.results.put(besides)
                waiting += prepared
            while len(waiting) >= batch_size:
                embed(waiting[:batch_size])
                del waiting[:batch_size]
        if waiting and not shared.stop.is_set():
            embed(waiting)
        shared.results.put(None)
    except Exception as error:
        shared.results.put(error)


def _prepare(
    model: EmbeddingModel, source: ImageInput
) -> tuple[list[tuple[str, np.ndarray]], EmbeddedBatch]:
    """The inputs of an image by their ids, and notes on how it was read."""
    whole = source.boxes is None
    try:
        # Twice the size that the model resizes to: its own resizing then decides what it sees.
        image = load_image(source.filepath, 2 * model.min_side if whole else 0)
    except UnreadableImageError as error:
        return [], EmbeddedBatch(failures=dict.fromkeys(source.ids, str(error)))
    inputs, failures, small = [], {}, 0
    for id_, box in zip(source.ids, source.boxes or [None]):
        try:
            inputs.append((id_, model.prepare(image if box is None else crop_square(image, box))))
            if box is not None:
                small += min(box[2] * image.width, box[3] * image.height) < SMALL_SIDE
        except UnreadableImageError as error:
            failures[id_] = str(error)
        except Exception as error:  # one input that the model cannot take must not end the run
            failures[id_] = f"the model's preprocessing failed on it: {error}"
    note = image.info.get("note")
    notes = dict.fromkeys((id_ for id_, _ in inputs), note) if note else {}
    return inputs, EmbeddedBatch(failures=failures, small=small, notes=notes)


def _embed_batch(model, prepared: list[tuple[str, np.ndarray]], batch_size: int) -> EmbeddedBatch:
    ids = [id_ for id_, _ in prepared]
    inputs = [array for _, array in prepared]
    try:
        vectors = _embed_filled(model, inputs, batch_size)
    except Exception as error:
        if len(prepared) == 1:
            return EmbeddedBatch(failures={ids[0]: f"the model failed on it: {error}"})
        # One input that the model cannot take must not cost the others their embeddings.
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


def _embed_filled(model: EmbeddingModel, inputs: list[np.ndarray], batch_size: int) -> np.ndarray:
    """The embeddings of inputs, the last of which go in batches that suit the model."""
    if len(inputs) == batch_size:
        return model.embed(inputs)
    size = min(batch_size, model.batch_size)
    vectors = []
    for start in range(0, len(inputs), size):
        part = inputs[start : start + size]
        vectors.append(model.embed(part + part[:1] * (size - len(part)))[: len(part)])
    return np.concatenate(vectors)
