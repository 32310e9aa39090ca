"""A joint space: images and texts as two fields of one model, such as ImageBind.

    python docs/examples/joint_space.py

Whatever embeds both sides can be put in the place of ``embed_images`` and ``embed_texts``, say

    from imagebind import data
    from imagebind.models import imagebind_model
    model = imagebind_model.imagebind_huge(pretrained=True).eval()
    def embed_images(paths):
        return model({"vision": data.load_and_transform_vision_data(paths, "cpu")})["vision"]

So that it runs anywhere, the space here is a small one: canonical correlation analysis (Hotelling
1936) between the pixels of handwritten digits and the letters of their captions, learned on digits
that are not in the dataset.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from PIL import Image
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import HashingVectorizer

Embed = Callable[[Sequence[str]], np.ndarray]

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def store_both_sides(
    dataset: fo.Dataset,
    embed_images: Embed,
    embed_texts: Embed,
    caption_field: str,
    model: str,
) -> None:
    """Stores both sides, each in a field, and says that they are of one model."""
    ids, paths, captions = dataset.values(["id", "filepath", caption_field])
    describe = foo.get_operator("@embedding/quality/describe_embeddings")
    for field, of, rows in (
        ("joint_image", "images", embed_images(paths)),
        ("joint_text", "texts", embed_texts(captions)),
    ):
        values = dict(zip(ids, np.asarray(rows, np.float32)))
        if dataset.get_field(field) is None:
            dataset.add_sample_field(field, fo.VectorField)
        dataset.set_values(field, values, key_field="id")
        # An index of the images: an image, or the embedding of a text, finds images.
        index = "joint_search" if of == "images" else None
        describe(dataset, embeddings=field, model=model, of=of, similarity_index=index)


def fit_of_captions(dataset: fo.Dataset) -> dict[str, float]:
    """By id, how well a caption fits its image: 1 if it fits it better than all other images.

    The two sides of a joint space lie in two cones (Liang et al. 2022, the modality gap): a cosine
    says little by itself, its rank among those with other images says much.
    """
    ids, images, texts = dataset.values(["id", "joint_image", "joint_text"])
    sides = []
    for rows in (np.stack(images), np.stack(texts)):
        rows = rows - rows.mean(axis=0)
        sides.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    likeness = sides[1] @ sides[0].T
    own = np.diag(likeness)
    return dict(zip(ids, (likeness <= own[:, None]).mean(axis=1)))


def search(dataset: fo.Dataset, embed_texts: Embed, text: str, k: int = 10) -> fo.DatasetView:
    """The images that are most like a text."""
    query = np.asarray(embed_texts([text]), np.float32)[0]
    return dataset.sort_by_similarity(query, k=k, brain_key="joint_search")


# The small space


def _pixels(paths: Sequence[str]) -> np.ndarray:
    images = [np.asarray(Image.open(path).convert("L").resize((8, 8))) for path in paths]
    return np.stack(images).reshape(len(images), -1) / 255


def _letters(texts: Sequence[str]) -> np.ndarray:
    words = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=256)
    return words.transform(texts).toarray()


def small_space(images: np.ndarray, captions: Sequence[str]) -> tuple[Embed, Embed]:
    """Two functions into one space, learned on pairs: ``(n, 64)`` pixels in [0, 1] and captions."""
    learned = CCA(n_components=9, max_iter=2000).fit(images, _letters(captions))

    def embed_images(paths: Sequence[str]) -> np.ndarray:
        return learned.transform(_pixels(paths))

    def embed_texts(texts: Sequence[str]) -> np.ndarray:
        letters = _letters(texts)
        pixels = np.zeros((len(letters), images.shape[1]))
        return learned.transform(pixels, letters)[1]

    return embed_images, embed_texts


def digits_with_captions(folder: Path, number: int = 200) -> list[fo.Sample]:
    """Digits as files; every tenth caption is that of another digit."""
    digits = load_digits()
    samples = []
    for index in range(number):
        path = folder / f"{index:03}.png"
        Image.fromarray((digits.images[index] * 15.9).astype(np.uint8)).save(path)
        digit = int(digits.target[index])
        swapped = index % 10 == 0
        said = NAMES[(digit + 3) % 10 if swapped else digit]
        samples.append(
            fo.Sample(str(path), digit=NAMES[digit], caption=f"a handwritten {said}", odd=swapped)
        )
    return samples


def main() -> None:
    digits = load_digits()
    captions = [f"a handwritten {NAMES[digit]}" for digit in digits.target[600:]]
    embed_images, embed_texts = small_space(digits.data[600:] / 16, captions)
    with tempfile.TemporaryDirectory() as folder:
        dataset = fo.Dataset()
        dataset.add_samples(digits_with_captions(Path(folder)))
        store_both_sides(dataset, embed_images, embed_texts, "caption", "cca of digits")
        fits = fit_of_captions(dataset)
        worst = sorted(fits, key=fits.get)[:20]
        swapped = sum(dataset.select(worst).values("odd"))
        print(f"of the 20 captions that fit worst {swapped} are of another digit")
        found = search(dataset, embed_texts, "a handwritten seven")
        print("images like 'a handwritten seven':", *found.values("digit"))
        dataset.delete()


if __name__ == "__main__":
    main()
