"""Reports on training and on sessions: figures and one HTML page."""
