"""A face found, followed and aligned, and the backbone that embeds it."""
