"""What is said: the voice gate, the recogniser, words and their times."""
