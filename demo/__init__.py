"""The main job on a dataset that needs no download, or on one's own: ``make demo``."""
