"""Runs the main job and prints what was found; ``--app`` opens FiftyOne's App on it instead.

The dataset is scikit-learn's handwritten digits, written out as images, unless one of these
environment variables names another: ``IMAGES`` (a folder with a folder of images per class),
``DATASET`` (a dataset that FiftyOne already has) or ``ZOO`` (a dataset of FiftyOne's zoo).
"""

import os
import re
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo

PREFIX = "@embedding/quality/"
MODEL = "cnn"


def main() -> None:
    fo.config.show_progress_bars = sys.stdout.isatty()
    dataset = load_dataset()
    if "--app" in sys.argv[1:]:
        open_app(dataset)
        return
    print(f"Dataset {dataset.name!r}: {len(dataset):,} samples", flush=True)
    run("compute_embeddings", dataset, embeddings=MODEL, model=MODEL)
    run("audit", dataset, embeddings=MODEL)
    choice = next((f"{key}={os.environ[key]} " for key in SOURCES if os.environ.get(key)), "")
    print(f"\nOpen it in the App:\n    {choice}make app")


def run(name: str, dataset: fo.Dataset, **parameters: Any) -> None:
    """Runs an operator and prints its summary."""
    operator = foo.get_operator(PREFIX + name)
    summary = operator.summary(operator(dataset, **parameters))
    # Markdown without its marks.
    print("\n" + textwrap.indent(re.sub(r"\*\*|`", "", summary), "  "), flush=True)


def load_dataset() -> fo.Dataset:
    """The dataset that the environment names, else the digits; loaded once and kept."""
    for key, load in SOURCES.items():
        if os.environ.get(key):
            return load(os.environ[key])
    return load_digits()


def load_digits() -> fo.Dataset:
    """scikit-learn's 1,797 handwritten digits (UCI, CC BY 4.0), enlarged to 64 x 64 pixels."""
    name = "quality-demo-digits"
    if fo.dataset_exists(name):
        return fo.load_dataset(name)
    from PIL import Image
    from sklearn.datasets import load_digits as load

    digits = load()
    folder = Path(fo.config.default_dataset_dir) / name
    samples = []
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels / 16 * 255).astype("uint8"))
        image.resize((64, 64), Image.Resampling.BICUBIC).save(path)
        samples.append(fo.Sample(str(path), ground_truth=fo.Classification(label=str(label))))
    return _persistent(name, samples)


def load_folder(folder: str) -> fo.Dataset:
    """A folder that has one folder of images for each class."""
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        sys.exit(f"IMAGES={folder}: there is no such folder")
    # Two folders of the same name are two datasets.
    name = f"quality-demo-{root.name}-{zlib.crc32(str(root).encode()):08x}"
    if fo.dataset_exists(name):
        return fo.load_dataset(name)
    import fiftyone.types as fot

    dataset = fo.Dataset.from_dir(str(root), fot.ImageClassificationDirectoryTree, name=name)
    if not len(dataset):
        dataset.delete()
        sys.exit(f"IMAGES={folder}: it has no subfolder with images")
    dataset.persistent = True
    return dataset


def load_existing(name: str) -> fo.Dataset:
    if not fo.dataset_exists(name):
        sys.exit(f"DATASET={name}: there is no such dataset; there are: {fo.list_datasets()}")
    return fo.load_dataset(name)


def load_zoo(name: str) -> fo.Dataset:
    import fiftyone.zoo as foz

    dataset = foz.load_zoo_dataset(name)
    dataset.persistent = True
    return dataset


SOURCES = {"IMAGES": load_folder, "DATASET": load_existing, "ZOO": load_zoo}


def open_app(dataset: fo.Dataset) -> None:
    # In a container FiftyOne would listen to the whole network, unless it is given an address.
    session = fo.launch_app(dataset, address=fo.config.default_app_address)
    print("Press Ctrl-C to stop")
    session.wait(-1)


def _persistent(name: str, samples: list) -> fo.Dataset:
    # Named when it is complete: a demo that was stopped before leaves nothing half done.
    dataset = fo.Dataset()
    dataset.add_samples(samples, progress=False)
    dataset.name = name
    dataset.persistent = True
    return dataset


if __name__ == "__main__":
    main()
