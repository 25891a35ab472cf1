"""A run kept on disk, in one folder that an analyst can use years later."""
