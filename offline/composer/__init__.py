"""Composed trials: real faces, voices and words put together along feelings whose valence and arousal are known."""
