"""What people see in a terminal: one run, everything at a broker, and how well a recording's labels agree."""
