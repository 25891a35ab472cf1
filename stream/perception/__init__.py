"""From a source's frames and sound to the features of each frame and to recognised words."""
