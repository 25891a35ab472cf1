"""MQTT: the sink, its connection, the outbox that bridges outages, and an embedded broker."""
