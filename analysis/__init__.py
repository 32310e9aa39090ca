"""Embeddings and labels in, findings out: arrays only; no FiftyOne, no files."""
