"""Trials: data sets as distributed, and the store of features made of them."""
