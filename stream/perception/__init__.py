"""From a source's frames and sound to features of each frame, and to recognised words."""
