"""Where frames and sound come from: files, cameras, microphones, streams, all on one time axis."""
