"""A run's folds into one bundle."""
