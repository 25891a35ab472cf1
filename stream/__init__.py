"""The asyncio engine: sources to features to estimates to sinks, live or replayed."""
