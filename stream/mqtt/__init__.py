"""MQTT: the sink, its connection, the outbox for outages, and a broker of our own."""
