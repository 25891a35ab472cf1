"""Training folds: the loop, its schedule, what it reads, what it leaves behind."""
