"""The repository is an installable plugin: an archive of HEAD, downloaded, runs."""

import contextlib
import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import fiftyone as fo
import pytest
import yaml
from conftest import ROOT


@contextlib.contextmanager
def _served(folder: Path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _fiftyone(*arguments: str, env: dict) -> str:
    command = [str(Path(sys.executable).parent / "fiftyone"), *arguments]
    done = subprocess.run(command, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_archive_of_head_installs_and_runs(tmp_path, digits):
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to make an archive of")
    archive = tmp_path / "web" / "main.zip"
    archive.parent.mkdir()
    subprocess.run(
        ["git", "archive", "--prefix=fiftyone-embedding-quality-main/", "-o", archive, "HEAD"],
        cwd=ROOT,
        check=True,
    )
    plugins = tmp_path / "plugins"
    env = os.environ | {"FIFTYONE_PLUGINS_DIR": str(plugins)}
    with _served(archive.parent) as url:
        _fiftyone("plugins", "download", f"{url}/main.zip", env=env)
    assert (plugins / "@embedding" / "quality" / "fiftyone.yml").is_file()
    # FiftyOne would install each of them on its own, for minutes; the set-up has installed them.
    _fiftyone("plugins", "requirements", "@embedding/quality", "--ensure", env=env)
    assert "@embedding/quality/compute_embeddings" in _fiftyone("operators", "list", env=env)

    script = (
        "import sys, fiftyone as fo, fiftyone.operators as foo\n"
        "operator = foo.get_operator('@embedding/quality/compute_embeddings')\n"
        "print('from', sys.modules[type(operator).__module__].__file__)\n"
        "print('computed', operator(fo.load_dataset(sys.argv[1]), model='cnn')['computed'])"
    )
    # From another folder, without the pip package of the development environment.
    command = [sys.executable, "-c", script, digits.name]
    done = subprocess.run(command, env=env, cwd=tmp_path, text=True, capture_output=True)
    assert f"from {plugins}" in done.stdout, done.stderr
    assert "computed 20" in done.stdout, done.stderr


def test_manifest_agrees_with_the_code():
    manifest = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    import fiftyone.operators as foo

    operators = {op.name for op in foo.list_operators() if op.plugin_name == manifest["name"]}
    assert operators == set(manifest["operators"]) | set(manifest["panels"])
    assert f'version = "{manifest["version"]}"' in (ROOT / "pyproject.toml").read_text()
    for name in manifest["operators"]:
        operator = foo.get_operator(f"{manifest['name']}/{name}")
        assert operator.config.label.startswith("Quality: ")
        assert operator.config.description


def test_the_documentation_lists_every_operator():
    manifest = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    named = {name for name in manifest["operators"] if not name.startswith("open_")}
    api = (ROOT / "docs" / "api.md").read_text().splitlines()
    assert {line[3:] for line in api if line.startswith("## ")} == named
    readme = (ROOT / "README.md").read_text()
    assert [name for name in sorted(named) if f"`{name}`" not in readme] == []


def test_importing_the_plugin_is_cheap():
    """FiftyOne runs the plugin's code to list operators; what takes seconds is imported later."""
    script = (
        "import sys, fiftyone, fiftyone.operators as foo\n"
        "before = set(sys.modules)\n"
        "foo.get_operator('@embedding/quality/compute_embeddings')\n"
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True)
    loaded = set(done.stdout.split())
    assert "fiftyone" in loaded, done.stderr
    heavy = {"torch", "torchvision", "timm", "open_clip", "umap", "cleanlab", "numba", "openTSNE"}
    assert not loaded & heavy


def test_the_database_that_the_environment_names_is_used():
    if uri := os.environ.get("FIFTYONE_DATABASE_URI"):
        assert fo.config.database_uri == uri
    assert fo.config.database_name == os.environ["FIFTYONE_DATABASE_NAME"]
