"""What is examined: the options of `stream-doctor`, the run that they stand for, and what examines a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from stream.broker.connection import without_password
from stream.broker.credentials import EMBEDDED, BrokerFiles
from stream.options import DEFAULT_BUNDLE, OutputOptions, parse_detector
from stream.sources.devices import stream_address
from stream.sources.open import is_live

if TYPE_CHECKING:
    from pathlib import Path

    from stream.options import InputOptions

NONE: Final = "none"


@dataclass(frozen=True)
class DoctorOptions:
    """What is examined; the names are those of `stream-run`'s options.

    `camera` None: all that the system shows, the first of which has to serve; a number, a name, a device's file, a
    stream's URL, or `none`. `microphone` None: the default one beside a camera; or `none`, a number, a name.
    `seconds` is how long each is looked at and listened to; None: long enough to judge by. Raises UserError for a
    face detector that does not exist.
    """

    camera: str | None = None
    microphone: str | None = None
    bundle: str = DEFAULT_BUNDLE
    broker: str = EMBEDDED
    ca_file: Path | None = None
    publisher_id: str | None = None
    detector: str = "auto"
    recogniser: str = "auto"
    accelerator: str = "auto"
    threads: int | None = None
    seconds: float | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    broker_password_file: Path | None = None

    def __post_init__(self) -> None:
        parse_detector(self.detector)

    @classmethod
    def for_run(cls, run: InputOptions, output: OutputOptions) -> Self:
        """What examines all that a run needs; of a recording, everything but the recording."""
        return cls(
            camera=run.source.removeprefix("camera:") if is_live(run.source) else NONE,
            microphone=run.microphone,
            bundle=run.bundle,
            broker=output.broker,
            ca_file=output.ca_file,
            publisher_id=output.publisher_id,
            detector=run.detector,
            recogniser=run.recogniser,
            accelerator=run.accelerator,
            threads=run.threads,
            client_cert=output.client_cert,
            client_key=output.client_key,
            broker_password_file=output.broker_password_file,
        )

    @property
    def broker_files(self) -> BrokerFiles:
        """What goes with the broker's address."""
        return BrokerFiles(self.ca_file, self.client_cert, self.client_key, self.broker_password_file)

    def command(self) -> str:
        """The `stream-doctor` with these options; passwords are left out."""
        seen = [] if self.camera is None else ["--camera", shown(self.camera)]
        return shlex.join(["stream-doctor", *seen, *self._words(self.microphone, default_broker=EMBEDDED)])

    def job(self, camera: str) -> str:
        """The command that the examination is about, where it looks through this camera; passwords are left out."""
        seen = [shown(camera)] if is_live(camera) else ["--camera", camera]
        microphone = self.microphone
        if camera == NONE:
            seen, microphone = ["talk.mp4"], None
        return shlex.join(
            ["stream-run", *seen, *self._words(microphone, default_broker=OutputOptions().broker)]
        )

    def _words(self, microphone: str | None, *, default_broker: str) -> list[str]:
        """The options that both commands have, where they are not the defaults."""
        options = (
            ("--microphone", None if microphone is None else shown(microphone), None),
            ("--bundle", self.bundle, DEFAULT_BUNDLE),
            ("--broker", without_password(self.broker), default_broker),
            ("--ca-file", self.ca_file, None),
            ("--client-cert", self.client_cert, None),
            ("--client-key", self.client_key, None),
            ("--broker-password-file", self.broker_password_file, None),
            ("--id", self.publisher_id, None),
            ("--detector", self.detector, "auto"),
            ("--recogniser", self.recogniser, "auto"),
            ("--accelerator", self.accelerator, "auto"),
            ("--threads", self.threads, None),
        )
        return [
            word for option, value, default in options if value != default for word in (option, str(value))
        ]


def shown(name: str) -> str:
    """A camera or a microphone as it may be told: a stream's URL without user and password."""
    return stream_address(name).label if is_live(name) else name
