"""Check the boxes of a detection dataset: wrong classes, misplaced and missing boxes.

    python docs/examples/patches_of_a_detector.py DATASET FIELD [PREDICTIONS_FIELD]

Each box is evaluated as a patch: its embedding is that of the image inside the box. With the
predictions of a detector that was not trained on these images, misplaced boxes and objects without
a box are found as well.
"""

import sys

import fiftyone as fo
import fiftyone.operators as foo


def operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


def embed(dataset: fo.Dataset, field: str, model: str = "cnn") -> None:
    """Stores an embedding in each box, in the attribute ``model``."""
    operator("compute_embeddings")(dataset, model=model, patches_field=field, embeddings=model)


def check(dataset: fo.Dataset, field: str, embeddings: str, predictions: str | None = None) -> dict:
    """Wrong boxes; ``dataset.load_saved_view`` of the views in the result shows them."""
    common = {"embeddings": embeddings, "patches_field": field, "label_field": field}
    operator("find_outliers")(dataset, check_pictures=False, **common)
    result = operator("find_label_issues")(dataset, predictions_field=predictions, **common)
    print(operator("find_label_issues").summary(result))
    return result


if __name__ == "__main__":
    given = fo.load_dataset(sys.argv[1])
    embed(given, sys.argv[2])
    check(given, sys.argv[2], "cnn", sys.argv[3] if len(sys.argv) > 3 else None)
