"""`stream-doctor`: whether everything that a live run needs is here and well, and what mends what is not."""
