"""Separability: against brute force and reference libraries, on real classes, and at the edges."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import read_rows
from fiftyone_embedding_quality.analysis import _class_geometry as geometry
from fiftyone_embedding_quality.analysis._statistics import wilson_interval
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.compare import (
    compare_embeddings,
    measure_field_prediction,
    measure_slices,
)
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.separability import (
    MAX_BOUNDARY,
    MIN_PAIRS_PER_CLASS,
    class_separability,
)
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from fiftyone_embedding_quality.checks.verdicts import (
    class_verdicts,
    comparison_verdict,
    field_verdict,
    slice_verdicts,
)


def clustered(rng, num_rows, classes=6, dim=24, spread=0.9):
    """Unit rows of overlapping classes, and their labels."""
    labels = rng.integers(0, classes, num_rows)
    centers = rng.standard_normal((classes, dim))
    vectors = centers[labels] + spread * rng.standard_normal((num_rows, dim)) + 0.5
    return unit_rows(vectors).rows, labels


def softmax_to_means(rows, labels, num_classes):
    """Probabilities to test with, where it does not matter that they are held out."""
    means = geometry.class_means(rows, np.asarray(labels), num_classes)
    scores = np.exp(12 * (rows @ means.T))
    return scores / scores.sum(axis=1, keepdims=True)


def measure(rows, labels, groups=None, k=10, num_classes=None, probabilities=None):
    num_classes = num_classes or int(labels.max()) + 1
    if probabilities is None:
        probabilities = softmax_to_means(rows, labels, num_classes)
    names = tuple(f"class {i}" for i in range(num_classes))
    graph = neighbor_graph(rows, k)
    return class_separability(rows, labels, names, graph, probabilities, groups)


@pytest.fixture(scope="module")
def messy():
    """Overlapping classes with duplicate groups, unlabeled rows, zero rows and a class of one."""
    rng = np.random.default_rng(4)
    rows, labels = clustered(rng, 700)
    groups = np.where(rng.random(700) < 0.3, rng.integers(0, 70, 700), -1)
    labels[labels == 5] = 4
    labels[17] = 5
    groups[17] = -1
    labels[rng.random(700) < 0.1] = -1
    labels[17] = 5
    rows[[3, 300]] = 0
    return rows, labels, groups


class TestSilhouette:
    def test_equals_scikit_learn(self):
        from sklearn.metrics import silhouette_samples, silhouette_score

        rows, labels = clustered(np.random.default_rng(0), 900)
        labels[5] = 6  # a class of one
        result = measure(rows, labels)
        expected = silhouette_samples(rows.astype(float), labels, metric="cosine")
        np.testing.assert_allclose(result.samples.silhouette, expected, atol=3e-6)
        of_class = [expected[labels == i].mean() for i in range(7)]
        np.testing.assert_allclose(result.classes.silhouette, of_class, atol=3e-6)
        assert result.overall.silhouette == pytest.approx(
            silhouette_score(rows, labels, metric="cosine"), abs=3e-6
        )

    def test_duplicates_do_not_count(self, messy):
        rows, labels, groups = messy
        result = measure(rows, labels, groups)
        judged = (labels >= 0) & rows.any(axis=1)
        distance = 1 - rows.astype(float) @ rows.T.astype(float)
        for i in range(0, 700, 7):
            if not judged[i]:
                assert np.isnan(result.samples.silhouette[i])
                continue
            usable = judged & (np.arange(700) != i)
            usable &= (groups != groups[i]) | (groups[i] < 0)
            means = {
                c: distance[i, usable & (labels == c)].mean() for c in set(labels[usable].tolist())
            }
            a = means.pop(labels[i].item(), None)
            b = min(means.values())
            expected = 0 if a is None else (b - a) / max(a, b)
            assert result.samples.silhouette[i] == pytest.approx(expected, abs=3e-6)


def test_neighbors_and_predictions_equal_brute_force(messy):
    rows, labels, groups = messy
    k = 10
    probabilities = softmax_to_means(rows, labels, 6)
    result = measure(rows, labels, groups, k, probabilities=probabilities)
    graph = neighbor_graph(rows, k)
    judged = (labels >= 0) & rows.any(axis=1)
    count = np.array([(judged & (labels == c)).sum() for c in range(6)])
    shares, expected = np.zeros((6, 6)), np.zeros(6)
    with_neighbors, confusion = np.zeros(6), np.zeros((6, 6), int)
    for i in np.flatnonzero(judged):
        own = judged & ((np.arange(700) == i) | ((groups == groups[i]) & (groups[i] >= 0)))
        others = (judged & ~own & (labels == labels[i])).sum()
        near = [j for j in graph.indices[i] if judged[j] and not own[j]][:others]
        confusion[labels[i], probabilities[i].argmax()] += 1
        for j in near:
            shares[labels[i], labels[j]] += 1 / len(near)
        if near:
            with_neighbors[labels[i]] += 1
            expected[labels[i]] += others / (judged & ~own).sum()
    classes = result.classes
    np.testing.assert_array_equal(classes.count, count)
    several = np.arange(5)
    with_neighbors[5] = np.nan  # the class of one
    purity = np.diag(shares)[several] / with_neighbors[several]
    np.testing.assert_allclose(classes.purity[several], purity, atol=1e-6)
    np.testing.assert_allclose(
        classes.purity_expected[several], (expected / with_neighbors)[several], atol=1e-6
    )
    right = np.diag(confusion)
    np.testing.assert_allclose(classes.recall[several], (right / count)[several])
    predictions = confusion.sum(axis=0)
    np.testing.assert_allclose(classes.precision, right / predictions)
    np.testing.assert_allclose(classes.f1[several], (2 * right / (count + predictions))[several])
    assert result.overall.balanced_accuracy == pytest.approx((right / count)[several].mean())
    assert result.overall.accuracy == pytest.approx(right.sum() / count.sum())

    pairs = result.pairs
    assert len(set(zip(pairs.label, pairs.other))) == len(pairs.label)
    at = pairs.label, pairs.other
    np.testing.assert_array_equal(pairs.count, confusion[at])
    np.testing.assert_allclose(pairs.predicted_share, confusion[at] / count[pairs.label])
    np.testing.assert_allclose(
        pairs.neighbor_share, shares[at] / with_neighbors[pairs.label], atol=1e-6
    )
    np.testing.assert_allclose(pairs.expected_share, count[pairs.other] / (count.sum() - 1))
    wrong = {(i, j) for i in range(5) for j in range(6) if i != j and confusion[i, j]}
    assert wrong <= set(zip(pairs.label.tolist(), pairs.other.tolist()))
    for c in several:
        others = np.where(np.arange(6) == c, -1, confusion[c])
        assert confusion[c, classes.confused_with[c]] == others.max()
        assert classes.confused_rate[c] == pytest.approx(others.max() / count[c])


def test_boundary_samples_are_those_between_both_classes():
    rows, labels = clustered(np.random.default_rng(1), 600, classes=4, spread=2.0)
    probabilities = softmax_to_means(rows, labels, 4)
    pairs = measure(rows, labels, probabilities=probabilities).pairs
    assert len(pairs.label) == 12
    for label, other, count, boundary in zip(pairs.label, pairs.other, pairs.count, pairs.boundary):
        ratio = probabilities[:, other] / probabilities[:, label]
        without_own = np.where(np.arange(4) == label, -1, probabilities)
        between = (labels == label) & (without_own.argmax(axis=1) == other) & (ratio > 1 / 9)
        assert len(boundary) == min(between.sum(), MAX_BOUNDARY)
        assert between[boundary].all() and (np.diff(ratio[boundary]) <= 0).all()
        predicted = probabilities[boundary].argmax(axis=1) == other
        assert predicted[: min(count, MAX_BOUNDARY)].all()


def test_wilson_equals_scipy():
    from scipy.stats import binomtest

    successes, trials = np.array([0, 1, 7, 30, 999, 5, 0]), np.array([1, 1, 10, 30, 1000, 40, 0])
    low, high = wilson_interval(successes, trials)
    for i in range(6):
        interval = binomtest(int(successes[i]), int(trials[i])).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert np.isnan([low[6], high[6]]).all()


class TestFisher:
    def test_equals_an_independent_computation(self):
        """The ratio is the largest eigenvalue of scatter between against scatter within."""
        from scipy.linalg import eigh
        from sklearn.covariance import ledoit_wolf

        rows, labels = clustered(np.random.default_rng(2), 400, classes=5)
        result = geometry.fisher_ratios(rows, labels, geometry.class_means(rows, labels, 5))
        wide = rows.astype(float)
        means = np.array([wide[labels == i].mean(axis=0) for i in range(5)])
        residual = wide - means[labels]
        _, shrinkage = ledoit_wolf(residual, assume_centered=True)
        covariance = residual.T @ residual / (400 - 5)
        within = (1 - shrinkage) * covariance
        within += shrinkage * np.trace(covariance) / 24 * np.eye(24)
        spread = np.trace(np.linalg.inv(within) @ covariance)
        spread /= 1 - (1 - shrinkage) * spread / 395
        for i in range(5):
            ratios = []
            for j in set(range(5)) - {i}:
                apart = means[i] - means[j]
                largest = eigh(np.outer(apart, apart), 2 * within, eigvals_only=True)[-1]
                noise = spread * (1 / (labels == i).sum() + 1 / (labels == j).sum())
                ratios.append(max(largest - noise / 2, 0))
            assert result[i] == pytest.approx(min(ratios), rel=1e-4)

    def test_shrinkage_equals_scikit_learn(self):
        from sklearn.covariance import ledoit_wolf

        for num_rows in (60, 800):
            rows, labels = clustered(np.random.default_rng(3), num_rows, classes=3, dim=90)
            means = geometry.class_means(rows, labels, 3)
            covariance, shrinkage = geometry.pooled_covariance(rows, labels, means)
            residual = (rows - means[labels]).astype(float)
            expected, weight = ledoit_wolf(residual, assume_centered=True)
            assert shrinkage == pytest.approx(weight, rel=1e-4)
            shrunk = (1 - shrinkage) * covariance
            shrunk += shrinkage * np.trace(covariance) / 90 * np.eye(90)
            np.testing.assert_allclose(
                shrunk, expected * num_rows / (num_rows - 3), atol=1e-4 * expected.max()
            )

    def test_classes_that_do_not_differ_have_ratio_near_zero(self):
        rng = np.random.default_rng(0)
        rows = unit_rows(rng.standard_normal((600, 50)) + 1).rows
        labels = rng.integers(0, 30, 600)
        ratios = geometry.fisher_ratios(rows, labels, geometry.class_means(rows, labels, 30))
        assert ratios.max() < 0.8  # the expected squared distance of two means of 20 rows is 2.5

    def test_known_ratio_of_two_normal_classes(self):
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1], 5000)
        rows = (0.1 * rng.standard_normal((10_000, 20))).astype(np.float32)
        rows[:, 0] += 0.3 * labels
        ratios = geometry.fisher_ratios(rows, labels, geometry.class_means(rows, labels, 2))
        np.testing.assert_allclose(ratios, 0.3**2 / (2 * 0.1**2), rtol=0.03)


class TestPairsAboveChance:
    def test_p_values_equal_scipy(self):
        """Every pair is tested, those without any prediction or neighbor as well."""
        from scipy.stats import binomtest, false_discovery_control

        rng = np.random.default_rng(5)
        labels = np.repeat(np.arange(5), 40)
        probabilities = np.eye(5)[np.where(rng.random(200) < 0.2, rng.integers(0, 5, 200), labels)]
        # Neighbors all of one's own class: predictions alone decide.
        rows = unit_rows(np.eye(5)[labels] + 1e-3 * rng.standard_normal((200, 5))).rows
        pairs = measure(rows, labels, probabilities=probabilities).pairs
        confusion = np.zeros((5, 5), int)
        np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
        off = ~np.eye(5, dtype=bool)
        raw = [
            binomtest(int(x), 40, 40 / 199, alternative="greater").pvalue for x in confusion[off]
        ]
        adjusted = np.zeros((5, 5))
        adjusted[off] = false_discovery_control(np.minimum(2 * np.array(raw), 1))
        np.testing.assert_allclose(pairs.p_value, adjusted[pairs.label, pairs.other], rtol=1e-6)

    def test_labels_drawn_at_random_mix_as_chance_has_it(self):
        rng = np.random.default_rng(6)
        rows, _ = clustered(rng, 800)
        found = [
            measure(
                rows, labels, probabilities=rng.dirichlet(np.ones(20), 800)
            ).overall.pairs_above_chance
            for labels in rng.integers(0, 20, (4, 800))
        ]
        assert sum(found) <= 1  # of 4 x 380 pairs

    def test_copies_of_one_sample_are_one_piece_of_evidence(self):
        rows, labels = clustered(np.random.default_rng(7), 600, classes=10, spread=0.3)
        members = np.flatnonzero(labels == 3)[:30]
        rows[members] = rows[np.flatnonzero(labels == 8)[0]]
        predicted = labels.copy()
        predicted[members] = 8
        groups = np.full(600, -1)
        alone = measure(rows, labels, groups, probabilities=np.eye(10)[predicted])
        groups[members] = 0
        grouped = measure(rows, labels, groups, probabilities=np.eye(10)[predicted])
        above = [
            set(zip(r.pairs.label[r.pairs.above_chance], r.pairs.other[r.pairs.above_chance]))
            for r in (alone, grouped)
        ]
        assert (3, 8) in above[0] and (3, 8) not in above[1]


def test_order_of_rows_does_not_matter(messy):
    rows, labels, groups = messy
    order = np.random.default_rng(0).permutation(len(rows))
    probabilities = softmax_to_means(rows, labels, 6)
    result = measure(rows, labels, groups, probabilities=probabilities).as_dict()
    shuffled = measure(
        rows[order], labels[order], groups[order], probabilities=probabilities[order]
    ).as_dict()
    for pair in shuffled["pairs"]:
        pair["boundary"] = order[pair["boundary"]].tolist()
    assert shuffled["order"] == result["order"]
    for kind in ("classes", "pairs"):
        assert len(shuffled[kind]) == len(result[kind])
        for one, other in zip(shuffled[kind], result[kind]):
            for key, value in other.items():
                if isinstance(value, float):
                    assert one[key] == pytest.approx(value, rel=1e-4, abs=1e-5)
                else:
                    assert one[key] == value
    assert shuffled["overall"] == pytest.approx(result["overall"], rel=1e-4)


class TestEdges:
    def test_class_of_one(self, messy):
        rows, labels, groups = messy
        result = measure(rows, labels, groups)
        one = next(c for c in result.as_dict()["classes"] if c["label"] == "class 5")
        assert one["count"] == 1 and one["silhouette"] == 0
        for key in ("recall", "recall_low", "f1", "purity", "fisher", "confused_rate"):
            assert one[key] is None
        assert class_verdicts(result)["class 5"] == "too few samples (only one)"
        assert 5 not in result.pairs.label

    def test_rare_classes_can_be_pure(self):
        rows, labels = clustered(np.random.default_rng(0), 300, spread=0.2)
        rare = np.concatenate([np.flatnonzero(labels == 2)[4:], np.flatnonzero(labels == 3)[2:]])
        keep = np.setdiff1d(np.arange(300), rare)
        result = measure(rows[keep], labels[keep], k=30)
        np.testing.assert_allclose(result.classes.purity, 1)
        verdicts = class_verdicts(result)
        assert verdicts["class 2"] == "too few samples (only 4)"
        assert verdicts["class 0"] == "well separated (recall 100 %)"

    def test_what_is_not_judged_does_not_count(self, messy):
        rows, labels, groups = messy
        overall = measure(rows, labels, groups).overall
        judged = (labels >= 0) & rows.any(axis=1)
        assert overall.samples == judged.sum()
        assert overall.unlabeled == (labels < 0).sum()
        assert overall.samples + overall.unlabeled + overall.zero_vectors == len(rows)
        assert overall.zero_vectors > 0
        # Without these rows at all, classes are just as separate.
        without = measure(rows[judged], labels[judged], groups[judged]).overall
        assert overall.silhouette == pytest.approx(without.silhouette, abs=1e-6)

    def test_single_class_and_no_labels(self):
        rows, labels = clustered(np.random.default_rng(0), 50)
        measured = measure(rows, np.zeros(50, int), num_classes=1)
        single = measured.as_dict()
        (verdict,) = class_verdicts(measured).values()
        assert verdict == "the only class: nothing to compare it with"
        assert single["overall"]["silhouette"] is None and single["pairs"] == []
        assert single["overall"]["balanced_accuracy"] == single["overall"]["purity"] == 1
        none = measure(
            rows, np.full(50, -1), num_classes=3, probabilities=np.full((50, 3), 1 / 3)
        ).as_dict()
        assert none["classes"] == none["pairs"] == none["order"] == []
        assert none["overall"]["samples"] == 0 and none["overall"]["purity"] is None
        empty = measure(rows[:0], labels[:0], num_classes=3, probabilities=np.empty((0, 3)))
        assert empty.overall.samples == 0

    def test_classes_without_samples_are_not_predicted(self):
        rows, labels = clustered(np.random.default_rng(0), 200, classes=3)
        probabilities = 0.4 * np.eye(5)[labels]
        probabilities[:, 3] = 0.6
        result = measure(rows, labels, num_classes=5, probabilities=probabilities)
        assert result.overall.accuracy == 1 and result.overall.classes == 3
        assert sorted(result.as_dict()["order"]) == ["class 0", "class 1", "class 2"]

    def test_classes_of_equal_vectors(self):
        rows = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
        result = measure(rows, np.repeat(np.arange(3), 20))
        np.testing.assert_allclose(result.classes.silhouette, 1)
        assert np.isnan(result.classes.fisher).all()  # no scatter to measure against

    def test_strong_imbalance(self):
        rng = np.random.default_rng(8)
        rows, labels = clustered(rng, 3000, classes=4, spread=0.5)
        keep = (labels == 0) | (rng.random(3000) < 0.01 * (labels + 1))
        rows, labels = rows[keep], labels[keep]
        result = measure(rows, labels)
        assert result.classes.count.max() > 40 * result.classes.count.min()
        assert result.overall.balanced_accuracy > 0.9
        assert result.overall.silhouette > 0

    def test_thousands_of_classes_stay_small(self):
        rng = np.random.default_rng(9)
        num_classes = 2500
        labels = np.repeat(np.arange(num_classes), 3)
        centers = rng.standard_normal((num_classes, 32))
        rows = unit_rows(centers[labels] + rng.standard_normal((7500, 32))).rows
        probabilities = np.zeros((7500, num_classes), np.float32)
        probabilities[np.arange(7500), np.where(rng.random(7500) < 0.5, labels, 7)] = 1
        result = measure(rows, labels, probabilities=probabilities)
        fields = result.as_dict()
        assert len(fields["classes"]) == len(fields["order"]) == num_classes
        assert sorted(result.order.tolist()) == list(range(num_classes))
        assert len(fields["pairs"]) <= num_classes * (MIN_PAIRS_PER_CLASS + 1)
        assert len(json.dumps(fields, allow_nan=False)) < 6e6

    def test_json_has_no_nan_and_the_keys_that_scripts_rely_on(self, messy):
        fields = measure(*messy).as_dict()
        assert json.loads(json.dumps(fields, allow_nan=False)) == fields
        assert {
            "label", "count", "recall", "recall_low", "recall_high", "precision", "f1", "purity",
            "purity_expected", "silhouette", "fisher", "confused_with", "confused_rate",
        } <= set(fields["classes"][0])  # fmt: skip
        assert {
            "label", "other", "predicted_share", "neighbor_share", "expected_share", "count",
        } <= set(fields["pairs"][0])  # fmt: skip
        assert {"balanced_accuracy", "purity", "silhouette", "classes", "samples"} <= set(
            fields["overall"]
        )

    def test_arguments_are_checked(self):
        rows, labels = clustered(np.random.default_rng(0), 30)
        graph, names, probabilities = neighbor_graph(rows, 3), tuple("abcdef"), np.ones((30, 6))
        for changed, message in (
            ({"labels": labels[:9]}, "labels has 9 entries for 30 rows"),
            ({"groups": labels[:9]}, "groups has 9"),
            ({"labels": labels + 1}, "below the number of classes, 6"),
            ({"probabilities": np.ones((30, 5))}, r"shape \(30, 6\)"),
        ):
            arguments = {"labels": labels, "probabilities": probabilities, "groups": None} | changed
            with pytest.raises(ValueError, match=message):
                class_separability(rows, class_names=names, graph=graph, **arguments)

    def test_importing_the_modules_is_light(self):
        heavy = "{'torch', 'numba', 'sklearn', 'scipy'}"
        code = (
            "import sys, fiftyone_embedding_quality.analysis.compare; "
            f"sys.exit(len({heavy} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_confused_classes_stand_together_in_the_order():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 20)
    twin = np.where(labels % 2 == 0, labels + 1, labels - 1)
    shuffle = rng.permutation(30)
    labels, twin = shuffle[labels], shuffle[twin]
    predicted = np.where(rng.random(600) < 0.4, twin, labels)
    rows = unit_rows(rng.standard_normal((600, 16))).rows
    result = measure(rows, labels, k=3, probabilities=np.eye(30)[predicted])
    place = np.argsort(result.order)
    assert (abs(place[shuffle[0::2]] - place[shuffle[1::2]]) == 1).all()


class Caltech:
    """The developer classes of Caltech-101."""

    def __init__(self, folder):
        samples = [s for s in read_rows(folder / "samples.csv") if s["is_background"] == "0"]
        stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
        at = {file: row for row, file in enumerate(stored["files"].tolist())}
        self.vectors = stored["embeddings"][[at[s["file"]] for s in samples]]
        self.rows = unit_rows(self.vectors).rows
        self.names = tuple(sorted({s["class"] for s in samples}))
        number = {name: i for i, name in enumerate(self.names)}
        self.labels = np.array([number[s["class"]] for s in samples])
        self.graph = neighbor_graph(self.rows, 30)

    def measure(self, labels):
        evidence = held_out_probabilities(self.rows, labels, len(self.names), self.graph)
        return class_separability(self.rows, labels, self.names, self.graph, evidence.probabilities)


@pytest.fixture(scope="module")
def caltech(shared):
    return Caltech(shared / "data" / "caltech101")


@pytest.fixture(scope="module")
def measured(caltech):
    return caltech.measure(caltech.labels)


class TestRealClasses:
    def test_confusable_pairs_are_found(self, measured):
        pairs = measured.as_dict()["pairs"]
        above = {frozenset((p["label"], p["other"])) for p in pairs if p["above_chance"]}
        for pair in (
            ("crayfish", "lobster"),
            ("ketch", "schooner"),
            ("cougar_body", "cougar_face"),
            ("chair", "windsor_chair"),
            ("mandolin", "electric_guitar"),
        ):
            assert frozenset(pair) in above
        # Little else is: the rest of the classes are easily told apart.
        assert len(above) < 20
        verdicts = class_verdicts(measured)
        assert verdicts["lobster"].startswith("confused with crayfish (")
        assert verdicts["dalmatian"].startswith("well separated")
        assert measured.as_dict()["classes"][0]["label"] == "lobster"

    @pytest.mark.parametrize("planted", [("grand_piano", "laptop"), ("dalmatian", "pizza")])
    @pytest.mark.slow
    def test_planted_labels_move_these_two_classes_only(self, caltech, measured, planted):
        one, other = (caltech.names.index(name) for name in planted)
        members = np.flatnonzero(caltech.labels == one)
        moved = np.random.default_rng(0).choice(members, len(members) // 5, replace=False)
        labels = caltech.labels.copy()
        labels[moved] = other
        after = caltech.measure(labels)
        change = after.classes.f1 - measured.classes.f1
        assert set(np.flatnonzero(change < -0.04).tolist()) == {one, other}
        assert abs(np.delete(change, [one, other])).max() < 0.04
        purity = after.classes.purity - measured.classes.purity
        assert set(np.flatnonzero(purity < -0.04).tolist()) == {one, other}
        above = [
            set(zip(r.pairs.label[r.pairs.above_chance], r.pairs.other[r.pairs.above_chance]))
            for r in (measured, after)
        ]
        assert (other, one) in above[1] - above[0]
        assert above[1] - above[0] <= {(one, other), (other, one)}
        # The samples on the boundary are the planted ones.
        place = np.flatnonzero((after.pairs.label == other) & (after.pairs.other == one))[0]
        first = after.pairs.boundary[place][: len(moved)]
        assert len(set(first.tolist()) & set(moved.tolist())) >= 0.9 * min(len(moved), MAX_BOUNDARY)
        assert after.classes.confused_with[other] == one
        assert f"confused with {planted[0]}" in class_verdicts(after)[planted[1]]
        assert f"of {planted[1]} predicted as this class" in class_verdicts(after)[planted[0]]


class TestCompare:
    def test_the_better_embedding_is_proved_better(self, caltech, measured):
        rng = np.random.default_rng(0)
        blurred = caltech.rows @ rng.standard_normal((1280, 48)).astype(np.float32)
        rows = unit_rows(blurred).rows
        graph = neighbor_graph(rows, 30)
        evidence = held_out_probabilities(rows, caltech.labels, len(caltech.names), graph)
        worse = class_separability(
            rows, caltech.labels, caltech.names, graph, evidence.probabilities
        )
        comparison = compare_embeddings({"blurred": worse, "full": measured})
        best, second = comparison.scores
        assert (best.name, second.name) == ("full", "blurred") and second.worse
        assert best.balanced_accuracy == pytest.approx(measured.overall.balanced_accuracy)
        assert second.difference == pytest.approx(
            worse.overall.balanced_accuracy - measured.overall.balanced_accuracy
        )
        assert second.difference_low < second.difference < second.difference_high < 0
        assert comparison_verdict(comparison).startswith("full separates these classes best")
        fields = comparison.as_dict()
        assert json.loads(json.dumps(fields, allow_nan=False)) == fields

    def test_equal_embeddings_are_not_told_apart(self, measured):
        comparison = compare_embeddings({"b": measured, "a": measured})
        assert [score.name for score in comparison.scores] == ["a", "b"]
        assert not comparison.scores[1].worse
        assert "but not significantly better than b" in comparison_verdict(comparison)

    def test_intervals_cover_the_truth(self):
        """Of two classifiers with known accuracies, in classes of different sizes."""
        rng = np.random.default_rng(1)
        labels = np.repeat(np.arange(5), [20, 30, 40, 60, 100])
        rows = unit_rows(rng.standard_normal((250, 8))).rows
        graph = neighbor_graph(rows, 2)
        names = tuple("abcde")
        covered = widths = 0
        for _ in range(40):
            easy = rng.random(250)
            both = {}
            for name, accuracy in (("good", 0.9), ("fair", 0.8)):
                right = 0.5 * easy + 0.5 * rng.random(250) < np.quantile(
                    0.5 * rng.random(20_000) + 0.5 * rng.random(20_000), accuracy
                )
                predicted = np.where(right, labels, (labels + 1) % 5)
                both[name] = class_separability(rows, labels, names, graph, np.eye(5)[predicted])
            scores = {score.name: score for score in compare_embeddings(both).scores}
            behind = min(scores.values(), key=lambda score: score.difference)
            sign = -1 if behind.name == "fair" else 1
            covered += behind.difference_low <= sign * 0.1 <= behind.difference_high
            covered += scores["good"].low <= 0.9 <= scores["good"].high
            widths += behind.difference_high - behind.difference_low
        assert covered >= 0.9 * 80
        assert widths / 40 < 0.2

    def test_other_samples_are_refused(self, measured, messy):
        with pytest.raises(ValueError, match="same samples"):
            compare_embeddings({"a": measured, "b": measure(*messy)})
        with pytest.raises(ValueError, match="At least two"):
            compare_embeddings({"a": measured})


class TestSlices:
    @pytest.fixture(scope="class")
    def noisy(self):
        """Labels are wrong more often in slice 1, and more so in class 2."""
        rng = np.random.default_rng(3)
        rows, labels = clustered(rng, 2000, spread=0.4)
        slices = rng.integers(0, 3, 2000)
        wrong = rng.random(2000) < 0.02 + (slices == 1) * (0.08 + 0.4 * (labels == 2))
        predicted = np.where(wrong, (labels + 1) % 6, labels)
        return measure(rows, labels, probabilities=np.eye(6)[predicted]), slices

    def test_the_slice_that_is_worse_is_named(self, noisy):
        result, slices = noisy
        measured = measure_slices(result, slices, ("day", "night", "dusk"))
        assert measured.difference_high[1] < 0
        assert slice_verdicts(measured)[1].startswith("worse than the other slices")
        assert measured.worst_class[1] == 2 and "class 2" in slice_verdicts(measured)[1]
        for number in range(3):
            inside = slices == number
            recalls = [
                result.samples.correct[inside & (result.samples.label == c)].mean()
                for c in range(6)
            ]
            assert measured.balanced_accuracy[number] == pytest.approx(np.mean(recalls))
            assert measured.count[number] == inside.sum()
        fields = measured.as_dicts()
        assert [field["value"] for field in fields] == ["day", "night", "dusk"]
        assert json.loads(json.dumps(fields, allow_nan=False)) == fields

    def test_slices_without_meaning_do_not_differ(self, noisy):
        result, _ = noisy
        for seed in range(5):
            slices = np.random.default_rng(seed).integers(-1, 4, 2000)
            measured = measure_slices(result, slices, tuple("abcd"))
            assert (measured.difference_low <= 0).all() and (measured.difference_high >= 0).all()

    def test_slices_of_other_classes_are_not_compared(self, noisy):
        result, _ = noisy
        measured = measure_slices(result, result.samples.label % 2, ("even", "odd"))
        assert np.isnan(measured.difference).all()
        assert slice_verdicts(measured)[0] == "shares no class with the other slices"

    def test_slices_without_labels_and_a_slice_of_everything(self):
        rows, labels = clustered(np.random.default_rng(0), 300)
        slices = np.arange(300) % 2
        labels[slices == 1] = -1
        result = measure(rows, labels, probabilities=np.eye(6)[labels])
        measured = measure_slices(result, slices, ("train", "test"))
        assert measured.count.tolist() == [150, 0] and np.isnan(measured.difference).all()
        assert slice_verdicts(measured)[0] == "shares no class with the other slices"
        assert slice_verdicts(measured)[1] == "no samples with a label"
        everything = measure_slices(result, np.zeros(300, int), ("all",))
        assert slice_verdicts(everything) == ["shares no class with the other slices"]


class TestFieldPrediction:
    def test_a_field_that_the_vectors_show(self):
        rng = np.random.default_rng(0)
        rows, labels = clustered(rng, 600)
        camera = (rng.random(600) < 0.1).astype(int)
        rows = unit_rows(rows + 0.5 * camera[:, None] * rng.standard_normal(24)).rows
        graph = neighbor_graph(rows, 20)
        found = measure_field_prediction(
            held_out_probabilities(rows, camera, 2, graph).probabilities,
            camera,
            ("a", "b"),
            labels,
        )
        assert found.low > 0.8 and found.chance == 0.5
        assert found.from_classes < 0.65
        assert field_verdict(found).startswith("the embeddings predict it (")

    def test_a_field_that_they_do_not(self):
        rng = np.random.default_rng(0)
        rows, labels = clustered(rng, 600)
        graph = neighbor_graph(rows, 20)
        camera = rng.integers(0, 3, 600)
        probabilities = held_out_probabilities(rows, camera, 3, graph).probabilities
        found = measure_field_prediction(probabilities, camera, tuple("abc"), labels)
        assert found.low <= found.chance and "beyond chance" in field_verdict(found)
        assert found.from_classes == pytest.approx(1 / 3, abs=0.08)

    def test_a_field_that_follows_the_class(self):
        rng = np.random.default_rng(0)
        rows, labels = clustered(rng, 600, spread=0.5)
        graph = neighbor_graph(rows, 20)
        camera = (labels % 2 ^ (rng.random(600) < 0.05)).astype(int)
        probabilities = held_out_probabilities(rows, camera, 2, graph).probabilities
        found = measure_field_prediction(probabilities, camera, ("a", "b"), labels)
        assert found.from_classes == pytest.approx(0.95, abs=0.02)
        assert "no better than the class alone" in field_verdict(found)
        with pytest.raises(ValueError, match="two values"):
            measure_field_prediction(probabilities, np.zeros(600, int), ("a", "b"))
