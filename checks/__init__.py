"""What is done: plan, read, evaluate, store; one file per check, which declares what it writes."""
