"""What a model is to the rest: who it is, and the two calls that it answers.

Two embeddings may stand in one field only if the same model made them, so a model is more than its
name: the hash of its weights and its preprocessing belong to it (``ModelIdentity``). All models
answer two calls, whatever library they come from (``EmbeddingModel``): ``prepare`` turns one
image into an input array and runs in the loading threads, ``embed`` turns a batch of them into
embeddings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two models the same for the embeddings that they compute.

    Attributes:
        name: the full name, for example ``open_clip:ViT-B-32/laion2b_s34b_b79k``
        weights: where the weights came from: a tag, a package or a file
        weights_hash: SHA-256 of all parameters and buffers, in the order of their names
        preprocessing: resizing, cropping and normalization in words
        dim: the length of an embedding
        precision: what the numbers are computed in; embeddings agree with float32 to a cosine of
            0.999 in any
        libraries: the versions of the libraries involved
        former_words: the preprocessing in torchvision's words, which distinguished models before
    """

    name: str
    weights: str
    weights_hash: str
    preprocessing: str
    dim: int
    precision: str
    libraries: dict[str, str]
    former_words: str = ""

    def same_vectors(self, other: dict[str, Any]) -> bool:
        """Whether a stored identity (``to_dict()``) belongs to the same model."""
        if any(getattr(self, key) != other.get(key) for key in ("weights_hash", "dim")):
            return False
        theirs = {other.get("preprocessing"), other.get("former_words")} - {None, ""}
        return self.preprocessing in theirs or self.former_words in theirs

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class EmbeddingModel(Protocol):
    """What the pipeline needs of a model.

    Attributes:
        identity: see ``ModelIdentity``
        batch_size: a size at which the model is fast on its device
        min_side: the shorter side in pixels of the images it wants; 0 if it wants them in full
        parallel: whether several threads may compute at once, and one core each suits them best
    """

    identity: ModelIdentity
    batch_size: int
    min_side: int
    parallel: bool

    @property
    def notes(self) -> Sequence[str]:
        """What the user has to know, in sentences, such as that the device was full."""

    def prepare(self, image: Image.Image) -> np.ndarray:
        """One RGB image to one input array; called from several threads."""

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Input arrays to ``(num_inputs, dim)`` float32 embeddings, as the model gives them."""
