"""The offline command lines: thin, options in, work elsewhere."""
