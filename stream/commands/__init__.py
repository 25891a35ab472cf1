"""The command lines of a live engine, one file each."""
