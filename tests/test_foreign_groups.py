"""Groups unlike the rest: a planted one is found whole, classes of ordinary sets are not."""

import numpy as np
import pytest
from conftest import read_rows
from fiftyone_embedding_quality.analysis.clusters import find_clusters
from fiftyone_embedding_quality.analysis.foreign_groups import FEWEST_MEMBERS, find_foreign_groups
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows


def classes(seed=0, num_classes=12, per_class=60, dim=64, common=1.0):
    """Unit rows of classes that have a direction in common, as embeddings of photos do."""
    rng = np.random.default_rng(seed)
    centers = common * np.eye(dim)[0] * np.sqrt(dim) + rng.standard_normal((num_classes, dim))
    rows = np.repeat(centers, per_class, axis=0)
    return unit_rows(rows + 0.5 * rng.standard_normal(rows.shape)).rows


def strangers(count, seed=1, dim=64):
    """Unit rows that are alike and do not have that direction."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(dim) + 0.2 * rng.standard_normal((count, dim))
    rows[:, 0] = 0
    return unit_rows(rows).rows


def found(rows, groups=None):
    clusters = find_clusters(rows, neighbor_graph(rows), groups, min_size=FEWEST_MEMBERS)
    return find_foreign_groups(rows, clusters.cluster)


def test_a_planted_group_is_found_whole_and_alone():
    result = found(np.concatenate([classes(), strangers(30)]))
    assert result.group.dtype == np.int64 and result.distance.shape == (1,)
    np.testing.assert_array_equal(np.flatnonzero(result.group == 0), np.arange(720, 750))
    order = np.random.default_rng(3).permutation(750)
    mixed = found(np.concatenate([classes(), strangers(30)])[order])
    np.testing.assert_array_equal(mixed.group, result.group[order])


def test_two_groups_are_told_apart_the_farther_one_first():
    near = unit_rows(strangers(30, seed=2) + 0.3 * np.eye(64)[0]).rows
    result = found(np.concatenate([classes(), near, strangers(30)]))
    assert (result.group[720:750] == 1).all() and (result.group[750:] == 0).all()
    assert result.distance[0] > result.distance[1]


@pytest.mark.parametrize("common", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_classes", [5, 12, 40])
def test_classes_are_no_foreign_groups(num_classes, common):
    """Small classes neither, with and without a direction that all have in common."""
    for seed in range(2):
        rows = classes(seed, num_classes, 40, common=common)
        small = np.r_[np.arange(12), np.arange(40, len(rows))]
        assert len(found(rows[small]).distance) == 0


def test_copies_a_few_and_a_large_part_are_no_group():
    copies = np.repeat(strangers(1), 30, axis=0)
    groups = np.r_[np.full(720, -1), np.full(30, 4)]
    assert len(found(np.concatenate([classes(), copies]), groups).distance) == 0
    for count in (FEWEST_MEMBERS - 3, 200):
        assert len(found(np.concatenate([classes(), strangers(count)])).distance) == 0
    assert len(found(strangers(40)).distance) == 0
    assert len(find_foreign_groups(np.empty((0, 8), np.float32), np.empty(0, int)).distance) == 0


@pytest.mark.slow
def test_no_class_of_photos_is_a_group(excerpt):
    folder = excerpt / "caltech101"
    photos = {row["file"] for row in read_rows(folder / "qa_samples.csv") if row["issue"] == "none"}
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    inside = np.array([file in photos for file in stored["files"].tolist()])
    rows = unit_rows(stored["embeddings"][inside].astype(np.float32)).rows
    assert len(rows) > 200 and len(found(rows).distance) == 0
