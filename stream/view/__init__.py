"""Views in a terminal: one run, everything at a broker, and how well estimates agree with a recording's labels."""
