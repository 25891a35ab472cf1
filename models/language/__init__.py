"""What is said: the voice gate, the recogniser, the words and their times, and their vectors."""
