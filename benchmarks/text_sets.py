"""Texts with classes that every Python installation has, and what is planted among them.

Docstrings of the standard library, by module, and paragraphs of the descriptions of installed
packages, by package. Which there are depends on what is installed; what is planted, on the seed.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fiftyone_embedding_quality.analysis.text_pairs import read_words

# Words of a text, and texts of a class.
SHORTEST, LONGEST = 12, 80
FEWEST, MOST = 30, 60


@dataclass(frozen=True)
class TextSet:
    """Texts with a class each: ``labels`` (n,) int64 are places in ``classes``."""

    texts: list[str]
    labels: np.ndarray
    classes: list[str]


@dataclass(frozen=True)
class Planted:
    """Texts, and pairs of them of which is known whether they are duplicates.

    Attributes:
        texts: those of a set, and changed ones behind them
        pairs: (m, 2) int64, a text and the changed one
        kinds: m kinds of change
        same: (m,) bool, whether they say the same
    """

    texts: list[str]
    pairs: np.ndarray
    kinds: list[str]
    same: np.ndarray


def docstrings() -> TextSet:
    """First paragraphs of docstrings of the standard library, by module or package."""
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if {"site-packages", "test", "tests", "idlelib"} & set(parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in ast.walk(tree):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                found.setdefault(parts[0], []).extend(re.split(r"\n\s*\n", text))
    return _set_of(found)


def descriptions() -> TextSet:
    """Paragraphs of the descriptions of installed packages, by package."""
    found: dict[str, list[str]] = {}
    for one in importlib.metadata.distributions():
        text = one.metadata.get_payload() or one.metadata.get("Description") or ""
        found.setdefault(str(one.metadata["Name"]), []).extend(re.split(r"\n\s*\n", str(text)))
    return _set_of(found)


def _set_of(found: dict[str, list[str]]) -> TextSet:
    """Prose only, each text once, of classes that are large enough."""
    texts, labels, classes, seen = [], [], [], set()
    for name, of_class in sorted(found.items()):
        chosen = []
        for text in of_class:
            text = " ".join(text.split())
            key = read_words(text).normalized
            if _is_prose(text) and key not in seen:
                seen.add(key)
                chosen.append(text)
        if len(chosen) >= FEWEST:
            texts += chosen[:MOST]
            labels += [len(classes)] * len(chosen[:MOST])
            classes.append(name)
    return TextSet(texts, np.array(labels), classes)


def _is_prose(text: str) -> bool:
    words = re.findall(r"[A-Za-z]+", text)
    lines = re.search(r">>>|::|https?://|[|{}<>\\=]|\*\*|^[-*#.]", text)
    letters = sum(map(len, words)) / max(len(text.replace(" ", "")), 1)
    return SHORTEST <= len(words) <= LONGEST and letters > 0.85 and not lines


def with_wrong_labels(of: TextSet, share: float, seed: int) -> np.ndarray:
    """Labels (n,) of which a share is another class, drawn at random."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(of.texts), int(share * len(of.texts)), replace=False)
    labels = of.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, len(of.classes), len(wrong))) % len(of.classes)
    return labels


def with_duplicates(of: TextSet, of_each: int, seed: int) -> Planted:
    """Changed texts of each kind, of texts that are drawn at random and changed once at most."""
    rng = np.random.default_rng(seed)
    spare = sorted({word for text in of.texts for word in re.findall(r"\b[a-z]{4,9}\b", text)})
    texts, pairs, kinds, same = list(of.texts), [], [], []
    order = iter(rng.permutation(len(of.texts)).tolist())
    waiting: list[int] = []
    changes = _changes(rng, spare)
    for kind, (change, says_the_same) in changes.items():
        tried = [*waiting, *order] if kind == next(iter(changes)) else waiting
        left, made = [], 0
        for place in tried:
            changed = change(of.texts[place]) if made < of_each else None
            if changed is None or changed == of.texts[place]:
                left.append(place)
                continue
            pairs.append((place, len(texts)))
            texts.append(changed)
            kinds.append(kind)
            same.append(says_the_same)
            made += 1
        waiting = left
    return Planted(texts, np.array(pairs), kinds, np.array(same))


def _changes(
    rng: np.random.Generator, spare: list[str]
) -> dict[str, tuple[Callable[[str], str | None], bool]]:
    """How a text is changed, rarest first, None where it cannot be; whether it says the same."""

    def number(text: str) -> str | None:
        found = re.search(r"\b\d+\b", text)
        if found is None:
            return None
        return f"{text[: found.start()]}{int(found[0]) + 1}{text[found.end() :]}"

    def sentences(text: str) -> str | None:
        parts = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
        return " ".join([*parts[1:], parts[0]]) if len(parts) > 1 else None

    def negation(text: str) -> str | None:
        found = re.search(r"\b(is|are|can|will|should|must)\b(?! not)", text)
        return f"{text[: found.end()]} not{text[found.end() :]}" if found else None

    def punctuation(text: str) -> str:
        # Between words, not within numbers.
        ends = r"[.,;:!?](?= |$)|[()\"]"
        return re.sub(ends, lambda _: rng.choice(["", " ", " -"]), text).strip()

    def word(text: str) -> str | None:
        # Within a sentence, and no word that means a number or a negation.
        found = [one for one in re.finditer(r"(?<=[a-z] )[a-z]{4,9}(?=[ .,])", text)]
        if len(text.split()) < 15 or not found:
            return None
        one = found[rng.integers(len(found))]
        return f"{text[: one.start()]}{rng.choice(spare)}{text[one.end() :]}"

    return {
        "another number": (number, False),
        "sentence order": (sentences, True),
        "a negation": (negation, False),
        "one word": (word, True),
        "punctuation": (punctuation, True),
        "case": (lambda text: text.upper(), True),
    }


def neighbors_of(rows: Iterable[int], similarity: np.ndarray) -> np.ndarray:
    """The most similar other row of each, (m, 2): natural pairs that are no duplicates."""
    similarity = similarity.copy()
    np.fill_diagonal(similarity, -1)
    return np.array([(row, int(similarity[row].argmax())) for row in rows])
