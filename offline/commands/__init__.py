"""The offline commands, one module each: thin, options in, work elsewhere."""
