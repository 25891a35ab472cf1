"""Sound: the rolling log-mel front end and VGGish."""
