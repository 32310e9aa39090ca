"""A network in the fastest form whose embeddings agree with its plain float32 ones.

16-bit numbers where the device computes them in hardware, batch norms folded into convolutions,
and oneDNN's own layers on CPUs. Each is tried on images and taken only if it agrees.
"""

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

# The lowest cosine to float32 at which a faster precision counts as the same model.
MIN_PRECISION_COSINE = 0.999


def choose_precision(
    model: Any, embed: Callable, device: str, run: Callable, inputs: list[np.ndarray]
) -> tuple[Callable, Any]:
    """The fastest form of a network on its device whose embeddings agree with its own.

    Args:
        model: the network, on the device, in float32
        embed: the network or its ``encode_image``
        device: a torch device
        run: ``run(embed, dtype, inputs)`` gives the float32 embeddings of inputs
        inputs: what to compare the embeddings of

    Returns:
        what embeds, and the type that its inputs have to have
    """
    import torch

    exact = run(embed, torch.float32, inputs)
    onednn = (True, False) if device == "cpu" else (False,)
    for dtype, with_onednn in itertools.product(fast_dtypes(device), onednn):
        fast_model = fold_batch_norms(copy.deepcopy(model)).to(dtype)
        fast_embed = fast_model.encode_image if embed is not model else fast_model
        try:
            if with_onednn:
                use_onednn_layers(fast_model if embed is model else fast_model.visual)
            cosines = _cosines(exact, run(fast_embed, dtype, inputs))
        # No 16-bit kernel, or an operator of oneDNN is not there or has changed.
        except (RuntimeError, TypeError, AttributeError):
            continue
        if cosines.min() >= MIN_PRECISION_COSINE:
            return fast_embed, dtype
    return embed, torch.float32


def fast_dtypes(device: str) -> list:
    """The 16-bit types that the device computes in hardware, the fastest first."""
    import torch

    if device.startswith("cuda"):
        return [torch.float16, torch.bfloat16]
    features: dict[str, Any] = {}
    # What the processor can does not help where torch is set to do without (ATEN_CPU_CAPABILITY).
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512":
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    types = []
    if features.get("avx512_bf16") or features.get("amx_bf16"):
        types.append(torch.bfloat16)
    if features.get("avx512_fp16"):
        types.append(torch.float16)
    return types


def fold_batch_norms(module: Any) -> Any:
    """Puts batch norms into the convolutions that stand before them (a fifth of the CNN's time).

    Modules are registered in the order in which they run, as a rule; where they are not, the
    embeddings come out wrong, and the caller's comparison with the plain network shows it.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    before = None
    for name, child in list(module.named_children()):
        fold_batch_norms(child)
        if isinstance(child, nn.BatchNorm2d) and before and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            # timm's batch norms carry the activation that follows.
            rest = [getattr(child, key, nn.Identity()) for key in ("drop", "act")]
            rest = [part for part in rest if not isinstance(part, nn.Identity)]
            setattr(module, name, nn.Sequential(*rest))
        before = (name, child)
    return module


def use_onednn_layers(module: Any) -> None:
    """Puts in two operators of oneDNN that torch itself uses in compiled networks.

    Weights of linear layers are laid out once instead of in each call (CLIP 1.07 times faster),
    and a ReLU is computed together with the convolution before it (the CNN 1.12 times). Where a
    network runs its layers in another order than they are registered in, the caller's comparison
    shows it, as above.
    """
    import torch
    from torch import nn

    operators = torch.ops.mkldnn
    limits = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
    before: Any = None
    for child in module.children():
        use_onednn_layers(child)
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


def probe_photos() -> list[Image.Image]:
    """Eight crops of the two images that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    return [
        photo.crop((left, top, left + 320, top + 213))
        for photo in photos
        for left, top in ((0, 0), (320, 0), (0, 213), (320, 213))
    ]


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / norms


def core_batch(model: Any) -> int:
    """The batch at which one core is fastest: one whose activations its cache can hold.

    Those of a convolutional network are larger than those of a transformer.
    """
    from torch import nn

    num_convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    return 8 if num_convolutions > 1 else 32
