"""The networks: temporal branches, co-attention, one fold's network, and all folds as one module."""
