"""What the plugin needs is declared and installed, and the private names that it uses are there."""

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections import defaultdict
from pathlib import Path

import fiftyone as fo
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOMS = ("analysis", "checks", "embedding", "operators", "panels", "pictures", "report", "storage")
FILES = sorted(
    [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).glob("*.py"))]
)

# Declared, and used by another library only: the module of that library that imports it.
THROUGH_OTHERS = {"safetensors": "timm.models._helpers"}

# Not declared: what a file goes without, and what comes with an extra of pyproject.toml.
OPTIONAL = {
    "aiohttp": "pictures/remote.py",
    "fsspec": "pictures/remote.py",
    "pillow-heif": "pictures/formats.py",
    "qdrant-client": "storage/index_search.py",
}
WITH_EXTRAS = {"sentence-transformers": "text", "transformers": "text", "ray": "ray"}

# Private names of other libraries, each with what has it and the files that use it.
PRIVATE = {
    "_all_stages": ("view", "storage/target.py storage/targets.py"),
    "_base_view": ("frames view", "storage/target.py"),
    "_brain_cache": ("dataset", "storage/references.py"),
    "_build": ("fiftyone.DatasetView", "storage/separability.py"),
    "_changed_fields": ("dataset document", "storage/runs.py"),
    "_conv_forward": ("torch.nn.Conv2d", "embedding/precision.py"),
    "_convolution_pointwise": ("torch.ops.mkldnn", "embedding/precision.py"),
    "_dataset": ("view", "storage/references.py storage/target.py storage/vectors.py"),
    "_doc": (
        "dataset",
        "checks/queues.py checks/thresholds.py panels/_open_sample.py storage/locks.py "
        "storage/names.py storage/references.py storage/runs.py storage/search_index.py "
        "storage/separability.py",
    ),
    "_frame_collection": ("video dataset", "storage/names.py storage/staleness.py"),
    "_handle_delete_generated_saved_view": ("fiftyone.core.dataset", "storage/references.py"),
    "_has_frame_fields": (
        "dataset",
        "storage/ownership.py storage/paths.py storage/staleness.py",
    ),
    "_int_mm": ("torch", "analysis/_exact_search.py"),
    "_is_dynamic_groups": ("view", "operators/base.py storage/targets.py"),
    "_is_frames": ("view", "storage/others.py"),
    "_is_generated": (
        "view",
        "checks/report.py panels/_open_sample.py storage/references.py storage/targets.py",
    ),
    "_LABEL_LIST_FIELD": ("fiftyone.Detections", "storage/labels.py storage/paths.py"),
    "_linear_pointwise": ("torch.ops.mkldnn", "embedding/precision.py"),
    "_kneighbors": ("fiftyone.brain.SimilarityIndex", "storage/index_search.py"),
    "_model": ("zoo model", "embedding/networks.py"),
    "_reload_docs": ("fiftyone.Sample", "storage/findings.py"),
    "_reorder_linear_weight": ("torch.ops.mkldnn", "embedding/precision.py"),
    "_root_dataset": (
        "view",
        "checks/removal.py checks/report.py checks/reviews.py checks/suggestion_reviews.py "
        "operators/base.py operators/delete_run.py operators/export_report.py "
        "operators/list_runs.py operators/update_audit.py storage/targets.py",
    ),
    "_run_cache": ("dataset", "storage/references.py storage/runs.py"),
    "_sample_collection": (
        "dataset",
        "storage/findings.py storage/locks.py storage/names.py storage/paths.py storage/vectors.py",
    ),
    "_serialize": ("view", "storage/references.py storage/separability.py"),
    "_set_name": ("view", "storage/references.py"),
    "_source_collection": ("patches view", "storage/targets.py"),
    "_validate_saved_view_name": ("dataset", "storage/references.py"),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported() -> dict[str, set[str]]:
    """The files that import each module of another package, anywhere in them."""
    found = defaultdict(set)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                found[name.partition(".")[0]].add(name_of(path))
    return found


def declared() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().split("\n")
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in found}


def used() -> dict[str, set[str]]:
    """The files that use each distribution, standard library and the plugin itself left out."""
    distributions = importlib.metadata.packages_distributions()
    by_name = defaultdict(set)
    wanted = {*declared(), *OPTIONAL, *WITH_EXTRAS}
    for module, files in imported().items():
        if module in sys.stdlib_module_names:
            continue
        names = {canonicalize_name(one) for one in distributions.get(module, ())}
        # One module may come with several distributions, as OpenCV's does.
        for name in (names & wanted) or names or {module.replace("_", "-")}:
            by_name[name] |= files
    return by_name


def test_what_is_used_is_declared():
    missing = {
        name: sorted(files)
        for name, files in used().items()
        if name not in declared() and name not in WITH_EXTRAS and files != {OPTIONAL.get(name)}
    }
    assert len(FILES) > 150 and missing == {}


def test_what_is_declared_is_used():
    unused = set(declared()) - set(used())
    assert unused == set(THROUGH_OTHERS)
    for name, module in THROUGH_OTHERS.items():
        library, *parts = module.split(".")
        folder = Path(importlib.util.find_spec(library).origin).parent
        source = folder.joinpath(*parts).with_suffix(".py").read_text()
        assert re.search(rf"^\s*(import|from) {name}\b", source, re.MULTILINE)


def test_the_three_files_say_the_same():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dynamic = project["tool"]["setuptools"]["dynamic"]["dependencies"]
    assert project["project"]["dynamic"] == ["dependencies"]
    assert dynamic == {"file": ["requirements.txt"]}
    manifest = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    assert Requirement(f"fiftyone{manifest['fiftyone']['version']}").specifier == (
        declared()["fiftyone"].specifier
    )
    extras = project["project"]["optional-dependencies"]
    for name, extra in WITH_EXTRAS.items():
        named = {canonicalize_name(Requirement(one).name) for one in extras[extra]}
        if name in named:  # an extra that the tests go without is not installed
            continue
        brought = [need for one in named for need in importlib.metadata.requires(one) or ()]
        assert name in {canonicalize_name(Requirement(need).name) for need in brought}


def test_what_is_installed_is_what_is_declared():
    for name, requirement in declared().items():
        assert requirement.specifier.contains(importlib.metadata.version(name)), name
    # Version 2.7 of cleanlab is of another license.
    assert not declared()["cleanlab"].specifier.contains("2.7.1")
    # Private names may be gone with any release, and will be with a major one.
    for name in ("fiftyone", "torch"):
        assert not declared()[name].specifier.contains("99.0"), name


def private_names(path: Path) -> set[str]:
    """The private names in a file that it does not make itself."""
    tree = ast.parse(path.read_text())
    found, own, asked = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (own if of_self else found).add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {alias.name for alias in node.names}
            found |= set(node.module.split("."))
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            asked.add(getattr(node.args[1], "value", ""))
    return {
        name
        for name in (found - own) | asked
        if isinstance(name, str) and name.startswith("_") and not name.startswith("__")
    }


def test_every_private_name_is_listed():
    found = defaultdict(set)
    for path in FILES:
        for name in private_names(path):
            found[name].add(name_of(path))
    assert {name: sorted(files) for name, files in found.items()} == {
        name: sorted(files.split()) for name, (_, files) in PRIVATE.items()
    }


@pytest.fixture(scope="module")
def holders():
    """What has the private names, by what ``PRIVATE`` calls it."""
    images, videos = fo.Dataset(), fo.Dataset()
    boxes = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])])
    images.add_sample(fo.Sample("/none.png", boxes=boxes))
    sample = fo.Sample("/none.mp4")
    sample.metadata = fo.VideoMetadata(total_frame_count=1, frame_rate=1)
    sample.frames[1] = fo.Frame(filepath="/none/1.png")
    videos.add_sample(sample)
    yield {
        "dataset": images,
        "dataset document": images._doc,
        "view": images.view(),
        "patches view": images.to_patches("boxes"),
        "video dataset": videos,
        "frames view": videos.to_frames(sample_frames=False),
    }
    images.delete()
    videos.delete()


@pytest.mark.parametrize("name", PRIVATE)
def test_the_private_name_is_still_there(name, holders):
    holder, files = PRIVATE[name]
    if holder == "zoo model":
        # What FiftyOne makes of every network of its zoo.
        from fiftyone.utils.torch import TorchImageModel

        there = (
            f"self.{name} ="
            in Path(importlib.import_module(TorchImageModel.__module__).__file__).read_text()
        )
    elif holder in holders:
        there = hasattr(holders[holder], name)
    else:
        there = hasattr(_object(holder), name)
    assert there, f"{holder} has no {name} any more, which {files} use"


def _object(path: str):
    """What a dotted name stands for: a module, or something in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(_object(module), name)
