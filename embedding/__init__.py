"""Images and object patches to vectors. Arrays and files only; nothing here imports FiftyOne but
the adapter for its model zoo.
"""
