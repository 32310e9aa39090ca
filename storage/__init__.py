"""The only room that reads and writes FiftyOne datasets: targets, embeddings and runs."""
