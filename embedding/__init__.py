"""Images and object patches to embeddings. Arrays and files only; nothing here imports FiftyOne but
the adapter for its model zoo.
"""
