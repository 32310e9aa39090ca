"""What is done: plan, read, judge and store, one file per check; each declares what it writes."""
