"""Embeddings by workers of Ray beside one process: seconds, CPU seconds, and whether they agree.

    python benchmarks/ray_workers.py [--images 1000] [--workers 2 4] [--model cnn] [--folder IMAGES]

The cluster is on this machine and is started before the clock: nodes of one core each. What starts
the workers, which load the model once each, is in the time of Ray; a row of few images before each
shows how much that is. Needs the extra ``ray``, and
writes to FiftyOne's database: ``FIFTYONE_DATABASE_URI`` names another one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from common import print_row, require_peers


def photos(folder: Path, count: int) -> list[str]:
    """Crops of the photos that scikit-learn carries, as JPEG files of 400 x 300 pixels."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    sources = [Image.fromarray(photo) for photo in load_sample_images().images]
    random, paths = np.random.default_rng(5), []
    for number in range(count):
        left, top = random.integers(0, 240), random.integers(0, 127)
        crop = sources[number % 2].crop((left, top, left + 400, top + 300))
        paths.append(str(folder / f"{number}.jpg"))
        crop.save(paths[-1], quality=90)
    return paths


def cpu_seconds() -> float:
    """Of this process and of all that it has started and that still run."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            spent = process.cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
        except psutil.Error:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--folder", type=Path, help="images; by default crops of two photos")
    options = parser.parse_args()
    require_peers("ray")
    import fiftyone as fo
    import fiftyone.operators as foo
    import ray
    from ray.cluster_utils import Cluster

    compute_embeddings = foo.get_operator("@embedding/quality/compute_embeddings")
    with tempfile.TemporaryDirectory() as folder:
        if options.folder is not None:
            files = sorted(options.folder.rglob("*.jpg"))[: options.images]
            paths = [str(path) for path in files]
        else:
            paths = photos(Path(folder), options.images)
        dataset = fo.Dataset()
        dataset.add_samples([fo.Sample(path) for path in paths])
        compute_embeddings(dataset.limit(16), model=options.model, embeddings="warm")
        print_row(f"{len(paths):,} images, {options.model}", "seconds", "CPU s", "lowest cosine")

        def row(name: str, field: str, engine: str | None, samples=dataset) -> None:
            started, spent = time.monotonic(), cpu_seconds()
            compute_embeddings(samples, model=options.model, embeddings=field, engine=engine)
            seconds, spent = time.monotonic() - started, cpu_seconds() - spent
            ours, theirs = (np.stack(samples.values(name)) for name in ("alone", field))
            lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            cosine = float(((ours * theirs).sum(axis=1) / lengths).min())
            print_row(name, f"{seconds:.1f}", f"{spent:.1f}", f"{cosine:.6f}")

        row("one process", "alone", None)
        for workers in options.workers:
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
            for _ in range(workers):
                cluster.add_node(num_cpus=1)
            ray.init(address=cluster.address, log_to_driver=False)
            # What it costs to start them: one block of the smallest size for each.
            few = dataset.limit(32 * workers)
            row(f"Ray, {workers} workers, {len(few)} images", f"start_{workers}", "ray", few)
            row(f"Ray, {workers} workers", f"workers_{workers}", "ray")
            ray.shutdown()
            cluster.shutdown()
        dataset.delete()


if __name__ == "__main__":
    main()
