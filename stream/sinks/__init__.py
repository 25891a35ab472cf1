"""Where estimates go: what every sink is, and the recorder."""
