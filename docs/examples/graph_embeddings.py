"""Embeddings of a graph between samples: DeepWalk, by factorizing what its walks would count.

    python docs/examples/graph_embeddings.py

DeepWalk (Perozzi et al. 2014) walks at random over a graph and learns skip-gram vectors of what
stands near what on the walks. Skip-gram with negative samples factorizes a matrix of pointwise
mutual information (Levy and Goldberg 2014), which for walks of unbounded length is known in closed
form (NetMF: Qiu et al. 2018):

    log max(1, vol / (T b) * sum over r = 1 … T of (D^-1 A)^r D^-1)

with the adjacency A, the degrees D, their sum vol, windows of T and b negative samples. Its
truncated SVD is the embedding. It needs no walks and no other package, and is the same every time;
dense, it is for some thousands of nodes. For more, walks and gensim's Word2Vec give embeddings of
the same kind, as node2vec (Grover and Leskovec 2016) does with walks that are biased.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from PIL import Image, ImageDraw
from scipy.sparse import csr_matrix
from sknetwork.data import karate_club

# Steps to either side that count as near, and negative samples for each.
WINDOW, NEGATIVE = 10, 1


def deepwalk(adjacency: np.ndarray | csr_matrix, num_dims: int = 16) -> np.ndarray:
    """Embeddings of the nodes of an undirected graph.

    Args:
        adjacency: ``(n, n)`` weights of the links, symmetric, 0 for none
        num_dims: at most n

    Returns:
        ``(n, num_dims)`` float32; a node without links has NaN, so that it is skipped and counted
    """
    links = csr_matrix(adjacency).toarray().astype(np.float64)
    count = len(links)
    degrees = links.sum(axis=1)
    linked = np.flatnonzero(degrees > 0)
    links, degrees = links[np.ix_(linked, linked)], degrees[linked]
    step = links / degrees[:, None]
    power, walks = np.eye(len(linked)), np.zeros_like(links)
    for _ in range(WINDOW):
        power = power @ step
        walks += power
    expected = degrees.sum() / (WINDOW * NEGATIVE) * walks / degrees[None, :]
    left, sizes, _ = np.linalg.svd(np.log(np.maximum(expected, 1)))
    num_dims = min(num_dims, len(linked))
    rows = left[:, :num_dims] * np.sqrt(sizes[:num_dims])
    # A singular vector has no sign of its own.
    rows *= np.sign(rows[np.abs(rows).argmax(axis=0), np.arange(num_dims)])
    found = np.full((count, num_dims), np.nan, np.float32)
    found[linked] = rows
    return found


def links_by_field(dataset: fo.Dataset, field: str) -> tuple[list[str], csr_matrix]:
    """The ids, and as many links between two samples as they share values of a field.

    Args:
        dataset: the dataset
        field: of texts, or lists of texts: an album, the people in an image, tags
    """
    ids, values = dataset.values(["id", field])
    holders = defaultdict(list)
    for row, value in enumerate(values):
        for one in {value} if isinstance(value, str) else set(value or ()):
            holders[one].append(row)
    pairs = [(row, place) for place, rows in enumerate(holders.values()) for row in rows]
    rows, places = np.array(pairs, int).reshape(-1, 2).T
    shape = (len(ids), max(len(holders), 1))
    member = csr_matrix((np.ones(len(pairs)), (rows, places)), shape)
    links = member @ member.T
    links.setdiag(0)
    links.eliminate_zeros()
    return ids, links


def store_and_describe(
    dataset: fo.Dataset, ids: list[str], rows: np.ndarray, field: str, graph: str
) -> None:
    """Stores the embeddings of linked samples, and says of which graph they are."""
    if dataset.get_field(field) is None:
        dataset.add_sample_field(field, fo.VectorField)
    values = {id_: row for id_, row in zip(ids, rows) if np.isfinite(row).all()}
    dataset.set_values(field, values, key_field="id")
    describe = foo.get_operator("@embedding/quality/describe_embeddings")
    describe(dataset, embeddings=field, model=f"deepwalk of {graph}", of="graph")


def what_the_graph_tells(dataset: fo.Dataset, field: str, label_field: str) -> dict:
    """How well the graph alone predicts the classes, and which labels do not fit it."""
    call = {"embeddings": field, "label_field": label_field}
    result = {}
    for name in ("compute_separability", "find_label_issues", "find_clusters"):
        more = {"names": "labels", "min_size": 3} if name == "find_clusters" else {}
        result[name] = foo.get_operator(f"@embedding/quality/{name}")(dataset, **call, **more)
    accuracy = result["compute_separability"]["overall"]["balanced_accuracy"]
    print(
        f"{label_field} is predicted by {field} with a balanced accuracy of {100 * accuracy:.0f} %,"
    )
    print(f"{result['find_label_issues']['flagged']} labels look wrong, and there are")
    print(f"{result['find_clusters']['num_clusters']} clusters")
    return result


def karate_club_members(folder: Path) -> list[fo.Sample]:
    """Zachary's karate club (1977): its members, and the faction that each has joined."""
    factions = karate_club(metadata=True).labels
    samples = []
    for member, faction in enumerate(factions):
        path = folder / f"member-{member + 1:02}.png"
        card = Image.new("RGB", (48, 48), "white")
        ImageDraw.Draw(card).text((14, 18), str(member + 1), fill="black")
        card.save(path)
        joined = fo.Classification(label=("officers", "instructor")[int(faction)])
        samples.append(fo.Sample(str(path), faction=joined))
    return samples


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = fo.Dataset()
        ids = dataset.add_samples(karate_club_members(Path(folder)))
        rows = deepwalk(karate_club(), num_dims=8)
        store_and_describe(dataset, ids, rows, "friends", "friendships")
        what_the_graph_tells(dataset, "friends", "faction")
        dataset.delete()


if __name__ == "__main__":
    main()
