"""The visual room: a face found and aligned, and the backbone that embeds it."""
