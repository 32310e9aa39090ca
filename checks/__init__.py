"""What is done: plan -> read -> judge -> store, one file per check."""
