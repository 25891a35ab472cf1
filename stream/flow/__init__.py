"""Flow control: bounded queues, waits between attempts, and the steps by which a slow machine leaves work out."""
