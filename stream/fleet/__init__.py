"""Several sources in one process, over one bundle."""
