"""A set of folds on disk: what it holds, how it is written, checked and loaded."""
