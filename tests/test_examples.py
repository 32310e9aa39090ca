"""The examples of the documentation run as they are written, and find what is planted."""

import contextlib
import hashlib
import http.server
import importlib.util
import json
import re
import threading
import time
from collections import Counter
from pydoc_data.topics import topics
from types import ModuleType

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from conftest import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def operator(name: str):
    return foo.get_operator(f"@embedding/quality/{name}")


def test_the_pages_name_every_example():
    page = (ROOT / "docs" / "examples.md").read_text()
    named = set(re.findall(r"examples/(\w+)\.py", page))
    assert named == {path.stem for path in EXAMPLES.glob("*.py")} and len(named) == 9


def test_links_of_the_documentation_lead_somewhere():
    """Of files and headings; ``make docs`` checks the built pages too."""
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    broken, checked = [], 0
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if link.startswith("http"):
                continue
            path, _, anchor = link.partition("#")
            there = page.parent / path if path else page
            checked += 1
            headings = there.read_text().splitlines() if anchor and there.is_file() else []
            slugs = {
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in headings
                if line.startswith("#")
            }
            if not there.exists() or (anchor and anchor not in slugs):
                broken.append(f"{page.name}: {link}")
    assert not broken and checked > 30, broken


# A service

# Seconds that it asks to wait where there were too many requests.
LIMITED = 0.3


def _vector(text: str, length: int = 96) -> list[float]:
    """A text as the directions of its words, which a hash gives."""
    total = np.zeros(length)
    for word in set(re.findall(r"[a-z]{4,}", text.lower())):
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
        total += np.random.default_rng(seed).normal(size=length)
    return list(total / max(np.linalg.norm(total), 1e-9))


class _Service(http.server.BaseHTTPRequestHandler):
    """The endpoint ``/v1/embeddings``, which answers some requests with faults."""

    protocol_version = "HTTP/1.1"
    asked: Counter
    faults: list[int]
    requests: int
    waits: list[float]
    answered: float

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service = type(self)
        service.requests += 1
        service.waits.append(time.monotonic() - service.answered)
        code = service.faults.pop(0) if service.faults else 200
        if self.path != "/v1/embeddings" or self.headers["Authorization"] != "Bearer secret":
            code = 401
        rows = []
        if code == 200:
            service.asked.update(body["input"])
            rows = [
                {"object": "embedding", "index": index, "embedding": _vector(text)}
                for index, text in enumerate(body["input"])
            ]
        # Nothing says that the rows come in the order of the texts.
        answer = json.dumps({"object": "list", "model": body["model"], "data": rows[::-1]}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        if code == 429:
            self.send_header("Retry-After", str(LIMITED))
        self.end_headers()
        self.wfile.write(answer)
        service.answered = time.monotonic()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def service(*faults: int):
    handler = type("Handler", (_Service,), {})
    handler.asked, handler.faults, handler.requests = Counter(), list(faults), 0
    handler.waits, handler.answered = [], time.monotonic()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def paragraphs(dataset):
    """Paragraphs on two topics of Python's own help, each once."""
    seen = set()
    for name in ("import", "formatstrings"):
        parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", topics[name])]
        for index, text in enumerate(parts):
            if len(re.findall(r"[A-Za-z]{4,}", text)) >= 8 and text not in seen:
                seen.add(text)
                dataset.add_sample(fo.Sample(f"/none/{name}-{index}.png", remark=text, about=name))
    dataset.add_sample(fo.Sample("/none/silent.png"))
    dataset.add_sample(fo.Sample("/none/blank.png", remark="  "))
    return dataset


@pytest.fixture(params=["urllib", "openai"])
def connect(request):
    """What makes a client: that of the example, or that of the package openai if it is there."""
    if request.param == "urllib":
        return example("service_embeddings").HttpClient
    openai = pytest.importorskip("openai", reason="needs the package openai for its client")
    return lambda url, key: openai.OpenAI(base_url=url, api_key=key, max_retries=0)


def test_captions_go_through_a_service(paragraphs, connect, capsys):
    module = example("service_embeddings")
    told, model = paragraphs.exists("about"), "text-embedding-3-small"
    number = len(told)
    assert number > 40
    # The second request meets a limit, then the service breaks down in the middle.
    with service(200, 429, 503, 200, *[500] * 5) as (asked, url):
        call = (paragraphs, connect(url, "secret"), model, "remark", "sense", 10, 0.02)
        with pytest.raises(Exception, match="500"):
            module.embed_captions(*call)
        assert paragraphs.count("sense") == 20 and asked.requests == 9
        # As long as the service says, else twice as long each time.
        assert asked.waits[2] >= LIMITED and asked.waits[3] >= 0.04
        assert all(wait >= 0.02 * 2**place for place, wait in enumerate(asked.waits[5:9]))
        assert module.embed_captions(*call) == number - 20
        # Nobody pays twice, and nothing is left to do.
        assert set(asked.asked.values()) == {1} and len(asked.asked) == number
        assert module.embed_captions(*call) == 0
        for text, vector in zip(*told.values(["remark", "sense"])):
            assert np.allclose(vector, _vector(text), atol=1e-6)
    with service() as (asked, url):
        with pytest.raises(Exception, match="401"):
            module.embed_batch(connect(url, "wrong"), "m", ["a text"])
        assert asked.requests == 1
    with pytest.raises(Exception, match=r"refused|onnection"):
        module.embed_batch(connect("http://127.0.0.1:9/v1", "none"), "m", ["a text"])

    result = module.find_wrong_labels(paragraphs, "sense", model, "about")
    assert result["balanced_accuracy"] >= 0.8
    assert "text-embedding-3-small: balanced accuracy" in capsys.readouterr().out


# A joint space


def test_a_joint_space_finds_captions_of_other_images(dataset, tmp_path, capsys):
    module = example("joint_space")
    digits = module.load_digits()
    captions = [f"a handwritten {module.NAMES[digit]}" for digit in digits.target[600:]]
    embed_images, embed_texts = module.small_space(digits.data[600:] / 16, captions)
    dataset.add_samples(module.digits_with_captions(tmp_path))
    module.store_both_sides(dataset, embed_images, embed_texts, "caption", "cca of digits")
    rows = {row["run_key"]: row for row in operator("list_runs")(dataset)["runs"]}
    assert rows["joint_image"]["model"] == rows["joint_text"]["model"] == "cca of digits"
    assert rows["joint_search"]["reasons"] == []

    fits = module.fit_of_captions(dataset)
    odd = dict(zip(*dataset.values(["id", "odd"])))
    worst = sorted(fits, key=fits.get)[:20]
    assert sum(odd.values()) == 20 and sum(odd[id_] for id_ in worst) >= 16
    for name in ("zero", "four", "seven"):
        found = module.search(dataset, embed_texts, f"a handwritten {name}").values("digit")
        assert found.count(name) >= 9
    separability = operator("compute_separability")(
        dataset, embeddings="joint_image", label_field="digit"
    )
    assert separability["overall"]["balanced_accuracy"] >= 0.85
    module.main()
    told = capsys.readouterr().out
    assert re.search(r"of the 20 captions that fit worst (1[6-9]|20) are of another", told)


# A graph


def test_friendships_tell_the_factions_of_the_karate_club(dataset, tmp_path, capsys):
    module = example("graph_embeddings")
    ids = dataset.add_samples(module.karate_club_members(tmp_path))
    graph = module.karate_club()
    assert graph.shape == (34, 34) and graph.nnz == 2 * 78
    module.store_and_describe(dataset, ids, module.deepwalk(graph, 8), "friends", "friendships")
    result = module.what_the_graph_tells(dataset, "friends", "faction")
    separability = result["compute_separability"]
    assert separability["model"] == "deepwalk of friendships" and separability["judged"] == 34
    assert separability["overall"]["balanced_accuracy"] >= 0.85
    assert "faction is predicted by friends" in capsys.readouterr().out
    assert operator("compute_visualization")(dataset, embeddings="friends", method="pca")


def test_the_closed_form_is_what_walks_count():
    """A reference: the same matrix from the definition, entry by entry, of a graph of six nodes."""
    module = example("graph_embeddings")
    links = np.zeros((6, 6))
    for one, other in [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5)]:
        links[one, other] = links[other, one] = 1
    degrees = links.sum(axis=1)
    reached = {}
    for start in range(6):
        chance = np.eye(6)[start]
        for step in range(1, module.WINDOW + 1):
            chance = sum(chance[node] * links[node] / degrees[node] for node in range(6))
            reached[start, step] = chance
    expected = np.zeros((6, 6))
    for one in range(6):
        for other in range(6):
            near = sum(reached[one, step][other] for step in range(1, module.WINDOW + 1))
            told = links.sum() * near / (module.WINDOW * module.NEGATIVE * degrees[other])
            expected[one, other] = np.log(max(told, 1))
    rows = module.deepwalk(links, 6).astype(np.float64)
    # U sqrt(S) times itself is (M Mᵀ) to the power of a half.
    values, vectors = np.linalg.eigh(expected @ expected.T)
    half = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    assert np.allclose(rows @ rows.T, half, atol=1e-4)
    # A node without links has none, and the others are as without it.
    lonely = np.pad(links, ((0, 1), (0, 1)))
    found = module.deepwalk(lonely, 6)
    assert np.isnan(found[6]).all() and np.allclose(found[:6], rows, atol=1e-5)


def test_images_that_share_albums_are_alike(dataset):
    module = example("graph_embeddings")
    random = np.random.default_rng(51)
    shelves = {"coast": ["dunes", "piers", "gulls"], "peak": ["huts", "glaciers", "ravens"]}
    for index in range(40):
        region = ("coast", "peak")[index % 2]
        albums = [str(one) for one in random.choice(shelves[region], 2, replace=False)]
        if index % 10 == 4:
            albums.append(shelves["peak"][0])
        sample = fo.Sample(f"/none/{index}.png", album=albums, region=region)
        dataset.add_sample(sample)
    lonely = fo.Sample("/none/lonely.png", region="peak")
    wrong = fo.Sample("/none/wrong.png", album=["dunes", "gulls"], region="peak")
    dataset.add_samples([lonely, wrong])
    ids, links = module.links_by_field(dataset, "album")
    shared = dict(zip(ids, dataset.values("album")))
    dense = links.toarray()
    for row in (0, 3, 41):
        for other in (1, 4, 40):
            both = set(shared[ids[row]] or ()) & set(shared[ids[other]] or ())
            assert dense[row, other] == len(both)
    module.store_and_describe(dataset, ids, module.deepwalk(links, 6), "albums", "shared albums")
    result = module.what_the_graph_tells(dataset, "albums", "region")
    assert result["compute_separability"]["overall"]["balanced_accuracy"] >= 0.9
    assert result["compute_separability"]["skipped"] == {"no embedding": 1}
    assert wrong.id in dataset.load_saved_view("label_issues: flagged").values("id")
    assert result["find_clusters"]["num_clusters"] >= 2


# Sounds


def test_sounds_are_told_by_their_instrument(dataset, tmp_path, capsys):
    module = example("audio_embeddings")
    files = module.record(tmp_path)
    module.add_sounds(dataset, files, tmp_path)
    assert dataset.count("mfcc") == 60 and len(dataset.first()["mfcc"]) == 26
    result = module.find_odd_sounds(dataset)
    assert result["balanced_accuracy"] >= 0.8
    # Every twentieth has the label of another instrument.
    paths = dict(zip(*dataset.values(["recording", "id"])))
    wrong = {paths[str(path)] for index, path in enumerate(files) if index % 20 == 7}
    quality = dict(zip(*dataset.values(["id", "label_issues_quality"])))
    assert set(sorted(quality, key=quality.get)[:3]) == wrong
    (row,) = [row for row in operator("list_runs")(dataset)["runs"] if row["run_key"] == "mfcc"]
    assert row["parameters"]["of"] == "audio"
    assert "instruments are recognized" in capsys.readouterr().out


def test_the_coefficients_are_those_of_the_definition():
    """A tone has its energy in the band of its pitch; twice as loud changes nothing kept."""
    module = example("audio_embeddings")
    time = np.arange(module.RATE) / module.RATE
    hiss = np.random.default_rng(51).normal(scale=0.01, size=module.RATE)
    sound = 0.4 * np.sin(2 * np.pi * 1000 * time) + hiss
    assert np.allclose(module.embed_sound(sound), module.embed_sound(2 * sound), atol=1e-3)
    spectrum = module.power_spectrogram(sound).mean(axis=0)
    assert spectrum.argmax() == round(1000 * module.FRAME / module.RATE)
    filters = module.mel_filters()
    peaks = filters.argmax(axis=1) * module.RATE / module.FRAME
    assert (np.diff(peaks) >= 0).all() and (filters.max(axis=1) <= 1).all()
    band = (spectrum @ filters.T).argmax()
    assert abs(peaks[band] - 1000) < 100
