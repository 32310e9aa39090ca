"""Embeddings from a service: captions through OpenAI's embeddings endpoint, or one like it.

    python docs/examples/service_embeddings.py DATASET CAPTION_FIELD LABEL_FIELD

needs ``OPENAI_API_KEY``, and ``OPENAI_BASE_URL`` for another service of the same form. Any client
will do whose ``client.embeddings.create(model=…, input=[texts])`` returns ``data`` with ``index``
and ``embedding``: that of the package openai (``openai.OpenAI()``), or ``HttpClient`` below, which
needs no package. The texts are sent to that service.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from fiftyone import ViewField as F

# Texts of a request, and tries of one before what is done so far is left for another call.
BATCH, TRIES = 100, 5

# Too many requests, and faults of the server that pass.
PASSING = (408, 409, 429, 500, 502, 503, 504)


class HttpClient:
    """The one call of the package openai that is needed, by the standard library."""

    def __init__(self, base_url: str, api_key: str = "") -> None:
        self.embeddings = self
        self._url, self._key = f"{base_url.rstrip('/')}/embeddings", api_key

    def create(self, *, model: str, input: list[str]) -> SimpleNamespace:
        body = json.dumps({"model": model, "input": input}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._url, body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            rows = json.load(response)["data"]
        return SimpleNamespace(data=[SimpleNamespace(**row) for row in rows])


def embed_batch(client: object, model: str, texts: list[str], wait: float = 1.0) -> np.ndarray:
    """``(num_texts, dim)`` float32; waits and tries again where the service says so.

    As long as it says (``Retry-After``), else ``wait`` seconds and twice as long each time.
    The package openai does that as well (``max_retries``); then this only adds tries.
    """
    for trial in range(TRIES):
        try:
            rows = client.embeddings.create(model=model, input=texts).data
            # In the order of the texts, whatever that of the answer is.
            rows = sorted(rows, key=lambda row: row.index)
            return np.array([row.embedding for row in rows], np.float32)
        except Exception as error:
            # urllib calls it code, openai status_code; without one the connection broke.
            code = getattr(error, "status_code", getattr(error, "code", None))
            if trial + 1 == TRIES or (isinstance(code, int) and code not in PASSING):
                raise
            headers = getattr(error, "headers", None) or getattr(
                getattr(error, "response", None), "headers", {}
            )
            time.sleep(float(headers.get("retry-after") or wait * 2**trial))
    raise AssertionError("not reached")


def embed_captions(
    samples: fo.Dataset | fo.DatasetView,
    client: object,
    model: str,
    caption_field: str,
    embeddings: str,
    batch_size: int = BATCH,
    wait: float = 1.0,
) -> int:
    """Stores an embedding of every caption that has none yet; returns how many.

    Each batch is stored before the next is asked for: what is interrupted goes on where it was.
    """
    dataset = samples._root_dataset
    if dataset.get_field(embeddings) is None:
        dataset.add_sample_field(embeddings, fo.VectorField)
    missing = samples.match((F(caption_field) != None) & (F(embeddings) == None))  # noqa: E711
    ids, texts = missing.values(["id", caption_field])
    rows = [(id_, text) for id_, text in zip(ids, texts) if text.strip()]
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        vectors = embed_batch(client, model, [text for _, text in part], wait)
        values = {id_: vector for (id_, _), vector in zip(part, vectors)}
        dataset.set_values(embeddings, values, key_field="id")
    return len(rows)


def find_wrong_labels(
    samples: fo.Dataset | fo.DatasetView, embeddings: str, model: str, label_field: str
) -> dict:
    """Records what made the embeddings, and looks which labels fit them."""
    describe = foo.get_operator("@embedding/quality/describe_embeddings")
    describe(samples, embeddings=embeddings, model=model, of="texts")
    separability = foo.get_operator("@embedding/quality/compute_separability")(
        samples, embeddings=embeddings, label_field=label_field
    )
    issues = foo.get_operator("@embedding/quality/find_label_issues")(
        samples, embeddings=embeddings, label_field=label_field
    )
    accuracy = separability["overall"]["balanced_accuracy"]
    print(f"{issues['model']}: balanced accuracy {100 * accuracy:.0f} %")
    print(f"{issues['flagged']} labels look wrong: saved view 'label_issues: flagged'")
    return {"balanced_accuracy": accuracy, "flagged": issues["flagged"]}


def main() -> None:
    name, caption_field, label_field = sys.argv[1:]
    base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    client = HttpClient(base_url, os.environ["OPENAI_API_KEY"])
    dataset, model = fo.load_dataset(name), "text-embedding-3-small"
    print(embed_captions(dataset, client, model, caption_field, "caption_service"), "embedded")
    find_wrong_labels(dataset, "caption_service", model, label_field)


if __name__ == "__main__":
    main()
