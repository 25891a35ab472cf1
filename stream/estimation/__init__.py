"""From features and words to estimates, provisional and settled."""
