"""A broker reached: its address and credentials, one connection; and one of our own."""
