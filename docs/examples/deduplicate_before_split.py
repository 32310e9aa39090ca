"""Remove duplicates before a dataset is split, and keep groups of duplicates in one split.

    python docs/examples/deduplicate_before_split.py DATASET EMBEDDINGS

Exact copies and near-duplicates are found, the redundant ones are tagged (nothing is deleted), and
train, val and test are drawn from the rest. A dataset that is split already is checked for leaks.
"""

import sys

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.utils.random as four


def operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


def deduplicated(dataset: fo.Dataset, embeddings: str) -> fo.DatasetView:
    """The dataset without redundant duplicates, which are tagged ``duplicates_remove``."""
    found = operator("find_duplicates")(dataset, embeddings=embeddings)
    if found["redundant"]:
        operator("remove_redundant")(dataset, action="tag")
    return dataset.match_tags("duplicates_remove", bool=False)


def split(view: fo.DatasetView, seed: int = 51) -> None:
    """Tags the samples of a view as train, val and test."""
    four.random_split(view, {"train": 0.7, "val": 0.15, "test": 0.15}, seed=seed)


def leaks(dataset: fo.Dataset, embeddings: str) -> fo.DatasetView:
    """Members of duplicate groups that are in several splits, of a dataset with split tags."""
    found = operator("find_duplicates")(dataset, embeddings=embeddings, split="tags")
    for leak in found["leaks"]:
        print(f"{leak['groups']} duplicate groups in both {' and '.join(leak['splits'])}")
    return dataset.load_saved_view("duplicates: leaks") if found["leaks"] else dataset.select([])


if __name__ == "__main__":
    given = fo.load_dataset(sys.argv[1])
    rest = deduplicated(given, sys.argv[2])
    split(rest)
    print(f"{len(rest)} of {len(given)} samples are in splits: {rest.count_sample_tags()}")
