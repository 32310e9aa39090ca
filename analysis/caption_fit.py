"""How well captions fit their images, against all other pairings of the set.

Three scores: what the captions of similar images say, what the images of similar captions show,
and, where images and captions lie in one space as those of CLIP do, their own similarity. The first
two need no common space (after LEMoN, Zhang et al., "LEMoN: Label error detection using multimodal
neighbors", 2024). Each is in standard deviations from what other pairings of the same caption
or image would get, which needs no matrix of all pairings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .vectors import order_of_content, unit_rows

# Neighbors that are asked. Of 337 captions swapped among 3,423 images of Caltech-101 5, 10, 15 and
# 20 find 0.982, 0.984, 0.982 and 0.982 (average precision); a common space made of the 1,000
# classes of ImageNet finds 0.58, and adds nothing to them.
ASKED = 10

# Rows below which nothing is said.
MIN_ROWS = 20

# Other pairings by which a fit is evaluated, at least, and rows computed at once.
PAIRINGS, BLOCK = 5000, 4096

# Shares of other pairings at which the share of captions that do not fit is estimated, the lowest
# of which counts. On Caltech-101 with 0.5, 2, 10 and 30 % of the captions exchanged that gives 0.6,
# 2.1, 9.6 and 15 %; lower shares of few captions are left to chance. On CIFAR-10 with 0, 2 and 9 %
# it gives 2.6, 4.6 and 12 %: its embeddings mistake some images.
TAILS = np.linspace(0.4, 0.6, 21)

# A share of captions that are as if paired at random at which it is the embeddings that say too
# little: of 30 images of 51 classes all are.
MOST = 0.5


@dataclass(frozen=True)
class CaptionFit:
    """How well n captions fit their images.

    Attributes:
        score: (n,) float32, the share of other pairings that fit at least as well, from 0 to 1
        order: (n,) int64 rows, those that fit worst first
        flagged: (n,) bool, captions that more likely belong to another image
        share: which share of captions does, as estimated: 0.6, 2.1, 9.6 and 15 % of the 0.5, 2, 10
            and 30 % on Caltech-101, more where the embeddings mistake images; above ``MOST`` they
            do not distinguish captions that fit from others, and none is flagged
        threshold: the score from which captions are flagged; 1 if none is
    """

    score: np.ndarray
    order: np.ndarray
    flagged: np.ndarray
    share: float
    threshold: float


def caption_fit(
    images: np.ndarray,
    captions: np.ndarray,
    image_neighbors: np.ndarray,
    caption_neighbors: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    same: np.ndarray | None = None,
    joint: bool = False,
) -> CaptionFit:
    """Finds captions that fit their images no better than those of other images.

    The fits are compared with those of other pairings of the same images and captions. Where the
    share s of these and t of the captions fit worse than a threshold, no more than t / s of the
    captions are as if paired at random (as Storey, 2002, estimates the share of true null
    hypotheses). Flagged is what fits worse than the threshold at which flags that are expected to
    be right outnumber the others most. That holds for captions that belong to other images, not
    for those that are wrong in a detail.

    Args:
        images: (n, dim) float32 unit rows
        captions: (n, other_dim) float32 unit rows
        image_neighbors: (n, k) rows of the nearest images of each, without itself
        caption_neighbors: (n, l) rows of the nearest captions of each, without itself
        groups: (n,) int64 duplicate groups, -1 in none: their members do not count as neighbors
        same: (n,) int64 numbers of equal captions, which count together: which of them are the
            nearest ones, chance decides; None if all differ
        joint: whether images and captions lie in one space

    Raises:
        ValueError: if there are fewer than ``MIN_ROWS`` rows, or the arguments do not match
    """
    num_rows = len(images)
    if num_rows < MIN_ROWS:
        raise ValueError(f"{num_rows} captions; at least {MIN_ROWS} are needed")
    if joint and images.shape[1] != captions.shape[1]:
        raise ValueError("images and captions of one space have the same dimensions")
    neighbors = (image_neighbors, caption_neighbors)
    fit_scores = _fit_scores(images, captions, neighbors, groups, same, joint)
    rows = np.arange(num_rows)
    own = _fit(fit_scores, rows, rows)
    others = np.sort(np.concatenate(_other_pairings(fit_scores, order_of_content(images))))
    return _flagged(own, others)


@dataclass(frozen=True)
class _FitScore:
    """The score of a pairing: ``left[image] · right[caption]``, in standard units.

    Attributes:
        left, right: (n, dim) float32
        center, spread: (n,) the mean and standard deviation over all pairings
        of_caption: whether these are of each caption, or of each image
    """

    left: np.ndarray
    right: np.ndarray
    center: np.ndarray
    spread: np.ndarray
    of_caption: bool

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Scores of pairings of rows: (m,) float64."""
        found = np.empty(len(images))
        for start in range(0, len(images), BLOCK):
            part = slice(start, start + BLOCK)
            left, right = self.left[images[part]], self.right[captions[part]]
            found[part] = np.einsum("ij,ij->i", left, right)
        whose = captions if self.of_caption else images
        return (found - self.center[whose]) / self.spread[whose]


def _fit_scores(
    images: np.ndarray,
    captions: np.ndarray,
    neighbors: tuple[np.ndarray, np.ndarray],
    groups: np.ndarray | None,
    same: np.ndarray | None,
    joint: bool,
) -> list[_FitScore]:
    shown, said = _centered(images), _centered(captions)
    said_around = _mean_of_neighbors(said, neighbors[0], groups, None)
    shown_around = _mean_of_neighbors(shown, neighbors[1], groups, same)
    found = [
        _fit_score(said_around, said, of_caption=True),
        _fit_score(shown, shown_around, of_caption=False),
    ]
    if joint:
        found += [_fit_score(shown, said, of_caption=of_caption) for of_caption in (True, False)]
    return found


def _fit_score(left: np.ndarray, right: np.ndarray, of_caption: bool) -> _FitScore:
    mine, all_others = (right, left) if of_caption else (left, right)
    mean = all_others.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance: np.ndarray = np.zeros((len(mean), len(mean)))
    for start in range(0, len(all_others), BLOCK):
        centered = all_others[start : start + BLOCK] - mean
        covariance += centered.T @ centered
    covariance = (covariance / len(all_others)).astype(np.float32)
    center, spread = np.empty(len(mine)), np.empty(len(mine))
    for start in range(0, len(mine), BLOCK):
        part = slice(start, start + BLOCK)
        center[part] = mine[part] @ mean
        spread[part] = np.einsum("ij,ij->i", mine[part] @ covariance, mine[part])
    # What is the same to all images, or captions, says nothing.
    return _FitScore(left, right, center, np.sqrt(np.maximum(spread, 1e-6)), of_caption)


def _fit(fit_scores: list[_FitScore], images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """The mean of all scores of pairings of rows; the two of a common space count as one."""
    scores = [fit_score.score(images, captions) for fit_score in fit_scores]
    joint = scores[2:]
    return np.mean([*scores[:2], *([np.mean(joint, axis=0)] if joint else [])], axis=0)


def _other_pairings(fit_scores: list[_FitScore], order: np.ndarray) -> list[np.ndarray]:
    """The fit of captions of other images: each image with those a few places away in an order."""
    num_rows = len(order)
    times = min(-(-PAIRINGS // num_rows), num_rows - 1)
    steps = np.unique(np.linspace(1, num_rows - 1, times + 2)[1:-1].astype(int))
    return [_fit(fit_scores, order, np.roll(order, step)) for step in steps]


def _flagged(own: np.ndarray, others: np.ndarray) -> CaptionFit:
    """Scores and flags of captions of which ``own`` is the fit, by the sorted fit of others."""
    at_least = len(others) - np.searchsorted(others, own, side="left")
    # Of equal scores the worse fit comes first.
    order = np.lexsort((np.arange(len(own)), own))
    below = np.searchsorted(others, own[order], side="right") / len(others)
    share_below = np.arange(1, len(own) + 1) / len(own)
    at_tails = np.searchsorted(own[order], np.quantile(others, TAILS), side="right") / len(own)
    share = float(min(1.0, (at_tails / TAILS).min()))
    gain = 2 * share * below - share_below
    distinguishable = share <= MOST and gain.max() > 0
    count = int(gain.argmax()) + 1 if distinguishable else 0
    flagged = np.zeros(len(own), bool)
    flagged[order[:count]] = True
    score = (at_least / len(others)).astype(np.float32)
    return CaptionFit(
        score=score,
        order=order,
        flagged=flagged,
        share=share,
        threshold=float(score[order[count - 1]]) if count else 1.0,
    )


def _centered(rows: np.ndarray) -> np.ndarray:
    """Unit rows around their mean: what all have in common is no evidence."""
    return unit_rows(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)).rows


def _mean_of_neighbors(
    rows: np.ndarray,
    neighbors: np.ndarray,
    groups: np.ndarray | None,
    same: np.ndarray | None,
) -> np.ndarray:
    """The mean of the first neighbors that are no duplicates: (n, dim) float32, zeros for none.

    Of equal ones each counts as the mean of all of them, without the row's own and its duplicates.
    """
    mine = np.arange(len(rows))
    groups = np.full(len(rows), -1) if groups is None else groups
    own = np.where(groups >= 0, groups, groups.max(initial=-1) + 1 + mine)
    equal, number, sizes = rows, mine, np.ones(len(rows), np.int64)
    around, num_around = np.zeros_like(rows), np.zeros(len(rows), np.int64)
    if same is not None:
        sums, number, sizes = _sums(rows, same)
        of_own, own_number, own_sizes = _sums(
            rows, np.unique(np.stack([same, own]), axis=1, return_inverse=True)[1]
        )
        equal = sums / sizes[:, None]
        num_around = sizes[number] - own_sizes[own_number]
        around = (sums[number] - of_own[own_number]) / np.maximum(num_around, 1)[:, None]
    total, count = np.zeros_like(rows), np.zeros(len(rows), np.int64)
    columns: np.ndarray = neighbors.T.astype(np.int64)
    for column in columns:
        among = number[column] == number
        asked = (count < ASKED) & (own[column] != own) & (~among | (num_around > 0))
        value = np.where(among[asked, None], around[asked], equal[number[column[asked]]])
        total[asked] += value
        count += asked
    return total / np.maximum(count, 1)[:, None]


def _sums(rows: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sum of the rows of each number, the place of each row's, and how many there are."""
    _, place, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), rows.shape[1]), np.float32)
    np.add.at(sums, place, rows)
    return sums, place, sizes
