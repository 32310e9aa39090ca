"""Texts, captions say, through a model: sentence encoders, word vectors, CLIP's text tower.

A model of texts answers one call: ``embed`` turns texts into embeddings, with reasons for those of
which it can make none.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

import numpy as np

from ..errors import UserError
from ..process import import_alone, without_bars
from .devices import resolve_device
from .identity import ModelIdentity
from .names import model_of_texts
from .networks import library_versions
from .pipeline import EmbeddedBatch
from .registry import open_clip_config
from .weights import hash_weights, reported_loading

TEXT_MODEL_HELP = (
    "'text:<sentence-transformers name or local folder>', 'words:<file of word vectors>', 'clip' "
    "or 'open_clip:<architecture>/<pretrained>'"
)

# Texts that go through a model before they are stored.
TEXTS_AT_ONCE = 1024

# A line of word vectors: one of GloVe's 300 numbers takes three thousand bytes.
LONGEST_LINE = 1 << 21

# Texts that CLIP's tower encodes at once.
CLIP_BATCH = 64

# The smoothing of Arora, Liang and Ma, "A simple but tough-to-beat baseline for sentence
# embeddings" (2017): a word counts SMOOTHING / (SMOOTHING + its share of all words).
SMOOTHING = 1e-3

# Words that a note names as unknown.
NAMED = 3

WORD = re.compile(r"\w+(?:['’]\w+)*")


class TextModel(Protocol):
    """What ``embed_texts`` needs of a model.

    Attributes:
        identity: see ``ModelIdentity``
    """

    identity: ModelIdentity

    @property
    def notes(self) -> Sequence[str]:
        """What the user has to know, in sentences."""

    def embed(
        self, texts: Sequence[str], batch_size: int | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        """``(num_texts, dim)`` float32 embeddings, and why a text has none, by its place."""


def load_text_model(
    name: str, text_field: str, texts: Iterable[str], weights: str | None, device: str | None
) -> TextModel:
    """Loads a model for texts.

    Args:
        name: ``text:<sentence-transformers name or local folder>``, ``words:<file>`` of Word2Vec
            or GloVe vectors, ``clip`` or ``open_clip:<architecture>/<pretrained>``
        text_field: the field of the texts, for the model's name
        texts: all that will be embedded, of which only the words are read from a file
        weights (None): a local file, for open_clip
        device (None): as of ``load_model``

    Raises:
        UserError: if the name, the file or the device is wrong, or a library is missing
    """
    library, _, rest = name.partition(":")
    called = model_of_texts(name, text_field)
    if library == "text" and rest:
        return SentenceModel(called, rest, resolve_device(device))
    if library == "words" and rest:
        return WordModel(called, os.path.expanduser(rest), texts)
    if (clip := open_clip_config(name, weights)) is not None:
        return ClipTexts(called, *clip, resolve_device(device))
    raise UserError(
        f"model={name!r} does not embed texts; for text_field= choose {TEXT_MODEL_HELP}"
    )


class SentenceModel:
    """An encoder of the library sentence-transformers (Reimers and Gurevych, 2019)."""

    notes: Sequence[str] = ()

    def __init__(self, called: str, name: str, device: str) -> None:
        try:
            sentence_transformers = import_alone("sentence_transformers")
        except ImportError as error:
            raise UserError(
                f"model='text:{name}' needs a package: pip install sentence-transformers"
            ) from error
        folder = os.path.expanduser(name)
        if os.path.isabs(folder) and not os.path.isdir(folder):
            raise UserError(f"model='text:{name}': there is no such folder")
        local = folder if os.path.isdir(folder) else None
        what = f"text:{name} (sentence-transformers)"
        with reported_loading(what, local, of_texts=True), without_bars():
            # No code of the model's own is executed.
            self._model = sentence_transformers.SentenceTransformer(
                local or name, device=device, trust_remote_code=False
            ).eval()
        self.identity = ModelIdentity(
            name=called,
            weights=name,
            weights_hash=hash_weights(self._model),
            preprocessing=f"{self._model.max_seq_length} tokens",
            dim=len(self._model.encode("a")),
            precision="float32",
            libraries=library_versions("sentence-transformers", "transformers", "torch"),
        )

    def embed(
        self, texts: Sequence[str], batch_size: int | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        vectors = self._model.encode(
            list(texts), batch_size=batch_size or 32, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32), {}


class TextTower:
    """The text tower of an open_clip model."""

    def __init__(self, called: str, architecture: str, pretrained: str, device: str) -> None:
        open_clip = import_alone("open_clip")
        with reported_loading(called, pretrained if os.path.isfile(pretrained) else None):
            network, _, _ = open_clip.create_model_and_transforms(
                architecture, pretrained=pretrained, device=device, weights_only=True
            )
        self.network, self._device = network.eval(), device
        self._tokenize = open_clip.get_tokenizer(architecture)

    def encode(self, texts: Sequence[str], batch_size: int = CLIP_BATCH) -> np.ndarray:
        """``(num_texts, dim)`` float32 embeddings, as the model gives them."""
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), batch_size):
                tokens = self._tokenize(list(texts[start : start + batch_size])).to(self._device)
                rows.append(self.network.encode_text(tokens).float().cpu().numpy())
        return np.concatenate(rows)


class ClipTexts:
    """CLIP's text tower: captions in the space of the images."""

    notes: Sequence[str] = ()

    def __init__(self, called: str, architecture: str, pretrained: str, device: str) -> None:
        self._tower = TextTower(called, architecture, pretrained, device)
        self.identity = ModelIdentity(
            name=called,
            weights=pretrained,
            weights_hash=hash_weights(self._tower.network),
            preprocessing="tokens of open_clip",
            dim=self._tower.encode(["a"]).shape[1],
            precision="float32",
            libraries=library_versions("open_clip_torch", "torch"),
        )

    def embed(
        self, texts: Sequence[str], batch_size: int | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        return self._tower.encode(texts, batch_size or CLIP_BATCH), {}


class WordModel:
    """Word vectors: a text is the mean of its words, rare ones counting more than frequent ones.

    Files of Word2Vec (Mikolov et al., 2013; text and binary) and GloVe (Pennington et al., 2014),
    also compressed by gzip. They list words from the most to the least frequent, from which a
    word's share is taken by Zipf's law. A word that is unknown as it is written is looked up in
    small letters. Only what occurs in the texts is kept in memory.
    """

    def __init__(self, called: str, path: str, texts: Iterable[str]) -> None:
        if not os.path.isfile(path):
            raise UserError(f"model='words:{path}': there is no such file")
        wanted = {form for text in texts for word in WORD.findall(text) for form in _forms(word)}
        try:
            self._vectors, ranks, total, dim, digest = _read_words(path, wanted)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(
                f"model='words:{path}' holds no word vectors of Word2Vec or GloVe: {error}"
            ) from error
        shares = {word: 1 / (rank * (np.log(total) + 0.5772)) for word, rank in ranks.items()}
        self._weights = {word: SMOOTHING / (SMOOTHING + share) for word, share in shares.items()}
        self._unknown: Counter[str] = Counter()
        self._known = 0
        self.identity = ModelIdentity(
            name=called,
            weights=os.path.basename(path),
            weights_hash=digest,
            preprocessing=f"weighted mean of words, smoothing {SMOOTHING}",
            dim=dim,
            precision="float32",
            libraries={},
        )

    @property
    def notes(self) -> Sequence[str]:
        """How many words are unknown."""
        unknown = self._unknown.total()
        if not unknown:
            return ()
        often = ", ".join(word for word, _ in self._unknown.most_common(NAMED))
        return (f"{unknown:,} of {unknown + self._known:,} words are unknown: {often}, …",)

    def embed(
        self, texts: Sequence[str], batch_size: int | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        rows, reasons = np.zeros((len(texts), self.identity.dim), np.float32), {}
        for row, text in enumerate(texts):
            words = WORD.findall(text)
            known = [form for word in words if (form := self._form(word)) is not None]
            self._known += len(known)
            self._unknown.update(word for word in words if self._form(word) is None)
            if not known:
                reasons[row] = "none of its words is known"
                continue
            weights = np.array([self._weights[word] for word in known], np.float32)
            vectors = np.stack([self._vectors[word] for word in known])
            rows[row] = weights @ vectors / weights.sum()
        return rows, reasons

    def _form(self, word: str) -> str | None:
        return next((form for form in _forms(word) if form in self._vectors), None)


def _forms(word: str) -> tuple[str, str]:
    return word, word.lower()


def _read_words(
    path: str, wanted: set[str]
) -> tuple[dict[str, np.ndarray], dict[str, int], int, int, str]:
    """The vectors of some words, their ranks, the number of all words, dim, the file's hash.

    Raises:
        ValueError: if the file is none of the formats
    """
    digest = hashlib.sha256()
    with open(path, "rb") as raw:
        while block := raw.read(1 << 20):
            digest.update(block)
    vectors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        dim, rank = 0, 0
        for rank, (word, vector) in enumerate(_entries(file), 1):
            if vector is None or not np.isfinite(vector).all():
                raise ValueError(f"entry {rank} is not a word with numbers")
            if dim not in (0, len(vector)):
                raise ValueError(f"entry {rank} has {len(vector)} numbers, those before {dim}")
            dim = len(vector)
            if word in wanted and word not in vectors:
                vectors[word], ranks[word] = vector, rank
    if not rank:
        raise ValueError("it is empty")
    return vectors, ranks, rank, dim, digest.hexdigest()


def _entries(file: Any) -> Iterator[tuple[str, np.ndarray | None]]:
    """Words and vectors; None where a line holds none."""
    first = next(_lines(file), None)
    if first is None:
        return
    head = first.split()
    if len(head) == 2 and all(part.isdigit() for part in head):
        count, dim = map(int, head)
        if not 0 < dim <= 1 << 16:
            raise ValueError(f"its first line declares {dim} numbers for each word")
        start = file.peek(1 << 12)[: 1 << 12]
        if _is_text(start, dim):
            yield from map(_of_line, _lines(file))
        else:
            yield from _of_binary(file, count, dim)
        return
    yield _of_line(first)
    yield from map(_of_line, _lines(file))


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines in bounded memory: a small archive may hold one without an end.

    Raises:
        ValueError: if a line is longer than any word with its numbers
    """
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise ValueError(f"a line of it is longer than {LONGEST_LINE:,} bytes")
        yield line


def _is_text(start: bytes, dim: int) -> bool:
    """Whether a line of numbers follows, and not their bytes."""
    try:
        return _of_line(start.split(b"\n")[0])[1] is not None or b"\n" not in start
    except UnicodeDecodeError:
        return False


def _of_line(line: bytes) -> tuple[str, np.ndarray | None]:
    # GloVe's largest vocabulary has words with spaces in them: the numbers stand last.
    parts = line.decode("utf-8").rstrip().split(" ")
    try:
        return parts[0], np.array(parts[1:], np.float32) if len(parts) > 1 else None
    except ValueError:
        return parts[0], None


def _of_binary(file: IO[bytes], count: int, dim: int) -> Iterator[tuple[str, np.ndarray]]:
    for _ in range(count):
        word = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte or len(word) > 10_000:
                raise ValueError("it ends within a word")
            word += byte
        data = file.read(4 * dim)
        if len(data) < 4 * dim:
            raise ValueError("it ends within a vector")
        text = bytes(word).lstrip(b"\n").decode("utf-8", "replace")
        yield text, np.frombuffer(data, "<f4").astype(np.float32)


def embed_texts(
    model: TextModel, texts: Mapping[str, str | None], batch_size: int | None = None
) -> Iterator[EmbeddedBatch]:
    """Embeds texts.

    Args:
        model: the model
        texts: by id; None, or nothing but spaces, for none
        batch_size (None): how many the model takes at once; by default what suits it

    Yields:
        an ``EmbeddedBatch`` for some of the texts; each id is in exactly one
    """
    ids = list(texts)
    for start in range(0, len(ids), TEXTS_AT_ONCE):
        part = ids[start : start + TEXTS_AT_ONCE]
        given = [id_ for id_ in part if (texts[id_] or "").strip()]
        failures = {id_: "there is no text" for id_ in part if not (texts[id_] or "").strip()}
        vectors: dict[str, Any] = {}
        if given:
            rows, reasons = model.embed([str(texts[id_]) for id_ in given], batch_size)
            for place, id_ in enumerate(given):
                reason = reasons.get(place)
                if reason is None and not np.isfinite(rows[place]).all():
                    reason = "the embedding is not finite"
                if reason is None:
                    vectors[id_] = rows[place]
                else:
                    failures[id_] = reason
        yield EmbeddedBatch(vectors, failures)
