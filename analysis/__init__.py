"""Vectors and labels in, findings out: arrays only, nothing here knows FiftyOne or opens a file."""
