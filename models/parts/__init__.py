"""Pretrained parts from elsewhere: which there are, how they get here, how their files are read."""
