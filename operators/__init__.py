"""What a user runs: one operator per file, each with its form, its work and its summary."""

from .compute_embeddings import ComputeEmbeddings

OPERATORS = (ComputeEmbeddings,)
