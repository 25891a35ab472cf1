"""Pretraining the encoders that folds stand on."""
