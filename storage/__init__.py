"""The only room that reads and writes FiftyOne datasets: targets, vectors and runs."""
