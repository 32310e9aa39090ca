"""Image files -> small arrays and measurements. Never imports fiftyone."""
