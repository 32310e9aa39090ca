"""Work on a dataset too large for one sitting: in parts that continue where they stopped.

    python docs/examples/a_million_images.py DATASET [PART]

Embeddings are computed part by part; a part that was interrupted continues, and what has an
embedding is skipped. The checks then work on the stored embeddings without reading the images
(``check_pictures=False``), and the plot shows a sample of the dataset.
"""

import sys

import fiftyone as fo
import fiftyone.operators as foo


def operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


def embed_in_parts(dataset: fo.Dataset, embeddings: str, model: str, part: int) -> None:
    """Computes missing embeddings, ``part`` samples at a time."""
    for first in range(0, len(dataset), part):
        result = operator("compute_embeddings")(
            dataset[first : first + part], model=model, embeddings=embeddings
        )
        print(f"{first + result['read']:,} samples, {result['failed']:,} could not be embedded")


def check(dataset: fo.Dataset, embeddings: str, label_field: str | None = None) -> dict:
    """All checks on the stored embeddings; no image is read."""
    return operator("audit")(
        dataset,
        embeddings=embeddings,
        label_field=label_field or "none",
        check_pictures=False,
    )


def plot(dataset: fo.Dataset, embeddings: str, num_samples: int = 100_000) -> dict:
    """A visualization of a random sample."""
    some = dataset.take(num_samples, seed=51) if len(dataset) > num_samples else dataset
    return operator("compute_visualization")(some, embeddings=embeddings, brain_key="sampled")


if __name__ == "__main__":
    given = fo.load_dataset(sys.argv[1])
    embed_in_parts(given, "clip", "clip", int(sys.argv[2]) if len(sys.argv) > 2 else 50_000)
    print(operator("audit").summary(check(given, "clip")))
