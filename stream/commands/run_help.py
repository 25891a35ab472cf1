"""What `stream-run --help` says before its options: what it does, and an example for each way to use it."""

from __future__ import annotations

from typing import Final

HELP: Final = """
Estimate how a person seems to feel, 30 times a second, and publish it over MQTT.

Examples:

  stream-run --demo
      a drawn person, and a bundle, recogniser and broker that the package brings along

  stream-run talk.mp4 --broker mqtt://127.0.0.1:1883
      a recording, at the pace it plays

  stream-run talk.mp4 --pace fast --record out.jsonl
      as fast as the machine can, with a JSON line per frame

  stream-run talk.mp4 --pace fast --latency-target 500 --record out.jsonl
      frames estimated in larger batches: faster still on most machines

  stream-run --camera 0 --broker embedded
      the default camera and microphone, with a broker of its own

  stream-run --camera /dev/video2 --microphone none --size 1280x720 --fps 30
      another camera, no sound

  stream-run --camera 0 --broker mqtts://broker.local --ca-file ca.pem --home-assistant
      a broker with TLS, and a device in Home Assistant

  stream-run rtsp://127.0.0.1:8554/cam
      any stream that FFmpeg opens

  stream-run --camera 0 --camera 1 --broker embedded
      two cameras side by side: one bundle in memory, topics for each

  stream-run --fleet fleet.toml --broker mqtt://hub
      any number of sources, with an id and options for each

  stream-run --camera 0 --budget full
      full quality always: a machine too slow for it drops frames instead

  stream-run --camera 0 --lsl --lsl-markers --metrics 9464
      for a laboratory's recorder, stamped at capture, with its markers; and for Prometheus
  stream-run --camera 0 --page
      on a page in the browser, at http://127.0.0.1:8080/

  stream-run --camera 0 --session sessions/P07 --participant P07
      everything that comes of it kept in a folder, for an analyst

  stream-run --list-devices
      cameras and microphones, by the names that --camera and --microphone take

Networks are computed by PyTorch (eager), torch.compile, OpenVINO, CUDA or TensorRT; the
last four are used only where their results agree with PyTorch's on test inputs that come
with the bundle. CUDA and TensorRT have not yet run on hardware. auto measures which are
fast enough on this machine, takes the most exact of them and remembers the choice, so that
replaying a recording gives the same record byte for byte. To use one whatever its speed,
name it: --accelerator eager.

Only numbers leave the process: no sound, words only with --publish-transcript, and a picture only
with --preview: the small face crop, to the viewers of the page. The folder of --session has the
words too, and picture and sound only with --keep-media.

In a terminal, m marks this moment, p pauses and resumes, r forgets what centering looks back on,
q ends the run.
"""
