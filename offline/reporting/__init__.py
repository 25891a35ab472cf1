"""Reports on training: figures and one HTML page."""
