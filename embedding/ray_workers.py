"""Image files through a model on the workers of a Ray cluster, block by block.

Ray Data hands out blocks of files and takes back blocks of embeddings; a pool of its actors, one on
each GPU or on a few cores, runs the same pipeline as one machine does. What a worker that dies had
in hand is done again by another one. The workers need the packages of the plugin, not the plugin:
FiftyOne imports it under a name that only its own process knows, so the source of the rooms that
are needed goes along.
"""

import contextlib
import importlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .pipeline import Box, EmbeddedBatch, ImageInput

ENGINES = ("ray",)

# Inputs of one block: large enough that handing it out costs little, small enough that a worker
# which dies takes little with it, and that all of them are busy until the end.
BLOCK_INPUTS, LEAST_INPUTS, BLOCKS = 256, 32, 64

# Parts in which Ray Data keeps the list of blocks; each has a cost of its own.
MOST_PARTS = 5000

# Cores of a worker without a GPU: each worker holds the model once, and its threads share it.
CORES_OF_WORKER = 4

ROOMS = ("embedding", "pictures")

INSTALL = "pip install 'ray[data]'"


@dataclass(frozen=True)
class ModelRequest:
    """How a worker loads the model: what ``load_model`` takes, and the hash of its weights."""

    name: str
    weights: str | None
    device: str | None
    weights_hash: str


@dataclass(frozen=True)
class WorkerInput:
    """One file and what is wanted of it, as a worker gets it."""

    filepath: str
    ids: tuple[str, ...]
    boxes: tuple[Box, ...] | None


def check_engine(engine: str | None, text_field: str | None = None) -> None:
    """Refuses an engine that is unknown, not installed, or of no use here.

    Raises:
        UserError: that names the way out
    """
    if engine is None:
        return
    if engine not in ENGINES:
        raise UserError(f"engine={engine!r} is not known; omit it for this machine, or pass 'ray'")
    if text_field is not None:
        raise UserError(f"engine={engine!r} embeds images only; omit it for texts")
    try:
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UserError(f"engine='ray' needs Ray, here and on its workers: {INSTALL}") from error


def embed_with_ray(
    request: ModelRequest, images: Iterable[ImageInput], batch_size: int | None = None
) -> Iterator[EmbeddedBatch]:
    """Embeds images or the patches on them on a Ray cluster.

    Args:
        request: the model
        images: the files, which the workers must be able to read under the same paths
        batch_size (None): how many inputs the model takes at once; by default what suits it

    Yields:
        an ``EmbeddedBatch`` for each block that is finished; each id is in exactly one

    Raises:
        UserError: if there is no cluster, or a worker cannot load the model
    """
    images = list(images)
    total = sum(len(image.ids) for image in images)
    size = min(BLOCK_INPUTS, max(LEAST_INPUTS, total // BLOCKS))
    blocks = [{"block": json.dumps(block)} for block in _blocks(images, size)]
    if not blocks:
        return
    import ray

    with _connected():
        workers, resources, num_threads = _workers(len(blocks))
        settings = (_sources(), vars(request), batch_size, num_threads)
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        with ray.data.DataContext.current(context):
            dataset = ray.data.from_items(blocks, override_num_blocks=min(len(blocks), MOST_PARTS))
            answers = dataset.map_batches(
                _by_value(_Worker),
                fn_constructor_args=settings,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
                **resources,
            )
            try:
                for answer in answers.iter_rows():
                    yield _batch_of(answer["answer"])
            except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
                raise UserError(
                    f"engine='ray': a worker failed: {_last_line(error)}. The embeddings that were "
                    "finished are stored; the same call computes the rest"
                ) from error


def _last_line(error: BaseException) -> str:
    """What Ray says of an error: its own words and a worker's traceback, of which the end."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")


def _blocks(images: Iterable[ImageInput], size: int) -> Iterator[list[tuple]]:
    """The files in blocks of that many inputs or a little more."""
    block: list[tuple] = []
    taken = 0
    for image in images:
        block.append((image.filepath, image.ids, image.boxes))
        taken += len(image.ids)
        if taken >= size:
            yield block
            block, taken = [], 0
    if block:
        yield block


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Connects to the cluster that Ray knows (``RAY_ADDRESS``, one on this machine), or starts one.

    What was connected before stays so.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:
        raise UserError(
            f"engine='ray': no cluster could be reached or started: {_last_line(error)}. "
            "Set RAY_ADDRESS to the address of a cluster"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _workers(num_blocks: int) -> tuple[int, dict[str, int], int]:
    """How many workers a cluster can have, what each asks for, and its number of threads."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise UserError("engine='ray': the cluster has no free CPU")
    if with_gpus := [node for node in nodes if node.get("GPU", 0) >= 1 and node.get("CPU", 0) >= 1]:
        gpus = sum(int(node["GPU"]) for node in with_gpus)
        each = max(1, min(int(node["CPU"] // node["GPU"]) for node in with_gpus))
        return min(gpus, num_blocks), {"num_gpus": 1, "num_cpus": each}, each
    each = min(CORES_OF_WORKER, *cores)
    workers = sum(number // each for number in cores)
    return min(workers, num_blocks), {"num_cpus": each}, each


def _sources() -> bytes:
    """The source of the rooms that a worker needs, by path: JSON, compressed.

    Ray keeps what is larger than 100 kB apart from an actor, which then cannot be started again
    when that is lost.
    """
    root = Path(__file__).parents[1]
    files = [*root.glob("*.py"), *(file for room in ROOMS for file in (root / room).glob("*.py"))]
    found = {str(file.relative_to(root)): file.read_text() for file in files}
    # The plugin's own registers operators.
    found["__init__.py"] = ""
    return zlib.compress(json.dumps(found, sort_keys=True).encode(), 9)


def _by_value(worker: type) -> type:
    """Lets Ray send a class itself, whose module a worker could not import by its name."""
    import sys

    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return worker


class _Worker:
    """One copy of the model, in an actor of Ray Data. It uses nothing of this module by name."""

    def __init__(
        self,
        sources: bytes,
        request: dict[str, Any],
        batch_size: int | None,
        num_threads: int,
    ) -> None:
        import hashlib
        import importlib
        import os
        import sys
        import tempfile

        package = f"embedding_quality_{hashlib.sha256(sources).hexdigest()[:12]}"
        if package not in sys.modules:
            folder = tempfile.mkdtemp(prefix="embedding-quality-")
            for path, source in json.loads(zlib.decompress(sources)).items():
                file = os.path.join(folder, package, path)
                os.makedirs(os.path.dirname(file), exist_ok=True)
                with open(file, "w") as written:
                    written.write(source)
            sys.path.append(folder)
        self._pipeline = importlib.import_module(f"{package}.embedding.pipeline")
        self._input = importlib.import_module(f"{package}.embedding.ray_workers").WorkerInput
        load = importlib.import_module(f"{package}.embedding.registry").load_model
        self._model = load(request["name"], request["weights"], request["device"])
        if self._model.identity.weights_hash != request["weights_hash"]:
            raise ValueError("the weights of the model on this worker are not those of the caller")
        self._batch_size, self._num_threads = batch_size, num_threads

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list]:
        return {"answer": [self._embedded(json.loads(block)) for block in rows["block"]]}

    def _embedded(self, block: list) -> bytes:
        """The embeddings of a block: a line of JSON, and the numbers of the matrix."""
        inputs = [
            self._input(path, tuple(ids), boxes and tuple(map(tuple, boxes)))
            for path, ids, boxes in block
        ]
        vectors: dict[str, np.ndarray] = {}
        besides: dict[str, Any] = {"failures": {}, "small": 0, "notes": {}}
        for batch in self._pipeline.embed_images(
            self._model, inputs, self._batch_size, self._num_threads
        ):
            vectors |= batch.vectors
            besides["failures"] |= batch.failures
            besides["notes"] |= batch.notes
            besides["small"] += batch.small
        head = json.dumps({"ids": list(vectors), **besides}).encode()
        matrix = np.stack(list(vectors.values())) if vectors else np.empty((0, 0))
        return head + b"\n" + matrix.astype(np.float32).tobytes()


def _batch_of(answer: bytes) -> EmbeddedBatch:
    """A block as a worker has sent it."""
    head, _, numbers = answer.partition(b"\n")
    told = json.loads(head)
    ids = told.pop("ids")
    matrix = np.frombuffer(numbers, np.float32).reshape(len(ids), -1) if ids else ()
    return EmbeddedBatch(dict(zip(ids, matrix)), **told)
