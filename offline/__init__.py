"""From recordings to trials, fold models, predictions and reports."""
