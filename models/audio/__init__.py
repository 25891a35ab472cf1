"""The sound room: the rolling log-mel front end and VGGish."""
