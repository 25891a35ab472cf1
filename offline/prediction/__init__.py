"""A bundle's estimates over whole trials, and what they are worth."""
