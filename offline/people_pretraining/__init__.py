"""Pretraining encoders on labelled pictures, sentences and comments of real people."""
