"""Exact nearest rows by cosine distance on a torch device, a CUDA GPU."""

from __future__ import annotations

import numpy as np
import torch

from .vectors import UnitRows

# Products and gathered rows held at once: 2^26 float32 values, a quarter of a gibibyte.
BUFFER_VALUES = 2**26


class TorchSearch:
    """Search by float32 products and ``topk``, exact on every query. A ``Search``.

    Candidates are compared exactly. A query whose answer that does not prove, for rows outside
    the candidates could be as near up to the rounding of the product, is compared with every row.
    """

    def __init__(self, searched: UnitRows, k: int, device: str) -> None:
        self.rows = torch.from_numpy(searched.rows).to(device)
        self.zero = torch.from_numpy(searched.zero).to(device)
        self.k = k
        num_rows, dim = searched.rows.shape
        self.num_candidates = min(k + 1 + max(24, k // 2), num_rows)
        # As in Float32Search; TensorFloat32, where it is allowed, keeps 10 bits of each value.
        exact_product = torch.get_float32_matmul_precision() == "highest"
        self.error = 2 * dim * 2.0**-24 + 1e-6 if exact_product else 2.0**-9

    def __call__(
        self, queries: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num_rows, dim = self.rows.shape
        at_once = max(
            1, min(BUFFER_VALUES // num_rows, BUFFER_VALUES // (self.num_candidates * dim))
        )
        parts = [
            self._search(
                torch.from_numpy(queries[start : start + at_once]).to(self.rows.device),
                torch.from_numpy(own[start : start + at_once]).to(self.rows.device),
            )
            for start in range(0, len(queries), at_once)
        ]
        distances = torch.cat([part[0] for part in parts]).cpu().numpy()
        columns = torch.cat([part[1] for part in parts]).to(torch.int32).cpu().numpy()
        return distances, columns, np.ones(len(queries), bool)

    def _search(
        self, queries: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores, candidates = torch.topk(queries @ self.rows.T, self.num_candidates, dim=1)
        candidates = candidates.sort(dim=1).values
        distances = (queries[:, None] - self.rows[candidates]).square().sum(dim=2) / 2
        distances, columns = self._nearest(distances, candidates, own)
        if self.num_candidates < len(self.rows):
            nearest_left = 1 - scores[:, -1] - self.error
            for query in torch.nonzero(nearest_left <= distances[:, -1]).flatten().tolist():
                distances[query], columns[query] = self._search_all(queries[query], own[query])
        return distances, columns

    def _search_all(
        self, query: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        at_once = max(1, BUFFER_VALUES // len(query))
        distances = torch.cat(
            [(rows - query).square().sum(1) / 2 for rows in self.rows.split(at_once)]
        )
        every = torch.arange(len(self.rows), device=query.device)
        nearest, columns = self._nearest(distances[None], every[None], own[None])
        return nearest[0], columns[0]

    def _nearest(
        self, distances: torch.Tensor, columns: torch.Tensor, own: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k nearest of columns in ascending order; a stable sort keeps that order for ties."""
        distances = torch.where(self.zero[columns], 1.0, distances)
        distances[columns == own[:, None]] = torch.inf
        distances, order = distances.sort(dim=1, stable=True)
        return distances[:, : self.k], columns.gather(1, order[:, : self.k])
