"""The whole examination: everything that a live run would use, one after the other, in the order of that run."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.bundle.load import load_bundle
from models.bundle.manifest import read_manifest
from models.errors import UserError
from models.spec import WindowSpec
from models.visual.detectors import HaarDetector, make_detector
from stream.build import choose_detector, find_bundle
from stream.doctor.broker import examine_broker
from stream.doctor.cameras import LOOK_S, examine_camera, no_camera
from stream.doctor.findings import Finding, Report, failure
from stream.doctor.machine import (
    NEEDED,
    OPTIONAL,
    ClockReading,
    examine_disk,
    installed_versions,
    judge_clock,
    judge_versions,
    newest_file_s,
    used_folders,
)
from stream.doctor.microphones import LISTEN_S, examine_microphone
from stream.doctor.parts import RECOMMENDED, examine_parts, examine_recogniser, judge_bundle
from stream.doctor.permissions import System
from stream.doctor.speed import examine_speed
from stream.options import DEFAULT_BUNDLE, InputOptions, parse_detector
from stream.session import default_threads, use_threads
from stream.sources.devices import (
    Address,
    DeviceList,
    camera_address,
    list_devices,
    microphone_address,
    open_address,
    stream_address,
)
from stream.sources.open import is_live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.bundle.load import Bundle
    from models.visual.detectors import FaceDetector
    from stream.options import DetectorChoice
    from stream.sources.reader import Opener

NONE: Final = "none"


@dataclass(frozen=True)
class DoctorOptions:
    """What is examined; the names are those of `stream-run`'s options.

    `camera` None: all that the system shows, the first of which has to serve; a number, a name, a device's file, a
    stream's URL, or `none`. `microphone` None: the default one beside a camera; or `none`, a number, a name.
    `seconds` is how long each is looked at and listened to; None: long enough to judge by.
    """

    camera: str | None = None
    microphone: str | None = None
    bundle: str = DEFAULT_BUNDLE
    broker: str = "embedded"
    ca_file: Path | None = None
    publisher_id: str | None = None
    detector: str = "auto"
    recogniser: str = "auto"
    accelerator: str = "auto"
    threads: int | None = None
    seconds: float | None = None

    def job(self, camera: str) -> str:
        """The command that the examination is about, where it looks through this camera."""
        words = ["stream-run"]
        if camera == NONE:
            words.append("talk.mp4")
        else:
            words += [camera] if is_live(camera) else ["--camera", camera]
        for option, value, default in (
            ("--microphone", None if camera == NONE else self.microphone, None),
            ("--bundle", self.bundle, DEFAULT_BUNDLE),
            ("--broker", self.broker, "embedded"),
        ):
            words += [option, str(value)] if value != default else []
        return shlex.join(words)


async def examine(
    options: DoctorOptions,
    tell: Callable[[str], None] = lambda message: None,
    *,
    opener: Opener = open_address,
    system: System | None = None,
    devices: DeviceList | None = None,
) -> Report:
    """Everything that `options` name, tried for real; devices are closed again, nothing is kept but an accelerator's
    choice.

    `tell` is told, in one line, what is examined now and how long it takes. `opener`, `system` and `devices` stand
    for this machine's. Raises UserError for options that mean nothing anywhere.
    """
    detector_choice = parse_detector(options.detector)
    begin = ClockReading.now()
    system = system or System.here()
    if devices is None:
        devices = await asyncio.to_thread(list_devices)
    found = [judge_versions(installed_versions([*NEEDED, *OPTIONAL]))]

    tell("the bundle and its parts, read and checked")
    bundle, about_bundle = await asyncio.to_thread(_examine_bundle, options.bundle)
    found += about_bundle
    manifest = None if bundle is None else bundle.manifest
    frame_rate = manifest.recipe.frame_rate if manifest else WindowSpec().frame_rate
    serving = detector_choice if bundle is None else choose_detector(detector_choice, bundle)
    found += await asyncio.to_thread(examine_parts, serving)
    found.append(await asyncio.to_thread(examine_recogniser, options.recogniser, manifest))

    looks_s, listens_s = options.seconds or LOOK_S, options.seconds or LISTEN_S
    detector = await asyncio.to_thread(_detector, detector_choice, bundle)
    cameras = _cameras(options, devices)
    if not cameras and options.camera != NONE:
        found.append(no_camera(system))
    about_cameras: list[Finding] = []
    for name in cameras:
        tell(f"camera {name}, {looks_s:g} s")
        about_cameras.append(
            await asyncio.to_thread(_examine_camera, name, detector, frame_rate, system, opener, looks_s)
        )
    found += _first_must_serve(about_cameras)

    if (heard := _microphone(options)) is not None:
        tell(f"microphone {heard}, {listens_s:g} s: say something")
        found.append(await asyncio.to_thread(_examine_microphone, heard, system, opener, listens_s))

    tell(f"broker {options.broker}" if options.broker == "embedded" else "the broker")
    if options.broker != NONE:
        found.append(
            await examine_broker(options.broker, ca_file=options.ca_file, publisher_id=options.publisher_id)
        )
    if bundle is not None:
        tell(
            "how fast this machine is: some seconds, longer where an accelerator is built for the first time"
        )
        found.append(await asyncio.to_thread(_examine_speed, options, detector_choice, frame_rate, tell))
    found.append(await asyncio.to_thread(examine_disk, used_folders()))
    found.append(judge_clock(begin, ClockReading.now(), newest_file_s=newest_file_s()))
    camera = NONE if options.camera == NONE else next(iter(cameras), options.camera or "0")
    return Report(options.job(camera), tuple(found))


def _examine_bundle(name: str) -> tuple[Bundle | None, tuple[Finding, ...]]:
    try:
        folder = find_bundle(name)
        read_manifest(folder)
        bundle = load_bundle(folder, missing_parts="tolerate")
    except UserError as error:
        return None, (failure(f"bundle {name}", error, mend="name another one with --bundle"),)
    return bundle, judge_bundle(bundle)


def _detector(choice: DetectorChoice, bundle: Bundle | None) -> FaceDetector:
    """The one that would serve; Haar where that one cannot, which has its own finding."""
    try:
        if bundle is None:
            return make_detector(choice)
        return make_detector(choose_detector(choice, bundle), framing=bundle.manifest.recipe.crop.framing)
    except UserError:
        return HaarDetector()


def _cameras(options: DoctorOptions, devices: DeviceList) -> list[str]:
    """The cameras to look through, as `--camera` takes them."""
    if options.camera is None:
        return [device.address for device in devices.cameras]
    return [] if options.camera == NONE else [options.camera]


def _microphone(options: DoctorOptions) -> str | None:
    """The microphone to listen to: none beside a stream, or where there is no camera, unless one is named."""
    if options.microphone is not None:
        return None if options.microphone == NONE else options.microphone
    return (
        None
        if options.camera is not None and (options.camera == NONE or is_live(options.camera))
        else "default"
    )


def _examine_camera(
    name: str, detector: FaceDetector, frame_rate: float, system: System, opener: Opener, seconds: float
) -> Finding:
    try:
        address: Address = (
            stream_address(name) if is_live(name) else camera_address(name, platform=system.platform)
        )
    except UserError as error:
        return failure(f"camera {name}", error, mend="stream-run --list-devices")
    return examine_camera(
        address, detector, frame_rate=frame_rate, system=system, opener=opener, seconds=seconds
    )


def _first_must_serve(found: list[Finding]) -> list[Finding]:
    """Of several cameras the first has to serve: what is wrong with the others stands in nobody's way."""
    return [finding if n == 0 else finding.no_worse_than("warning") for n, finding in enumerate(found)]


def _examine_microphone(name: str, system: System, opener: Opener, seconds: float) -> Finding:
    try:
        address = (
            stream_address(name) if is_live(name) else microphone_address(name, platform=system.platform)
        )
    except UserError as error:
        return failure(f"microphone {name}", error, mend="stream-run --list-devices, or --microphone none")
    return examine_microphone(address, system=system, opener=opener, seconds=seconds)


def _examine_speed(
    options: DoctorOptions, detector: DetectorChoice, frame_rate: float, tell: Callable[[str], None]
) -> Finding:
    try:
        use_threads(options.threads or default_threads(options.bundle))
        run = InputOptions(
            source="camera",
            bundle=options.bundle,
            detector=detector,
            recogniser=options.recogniser,
            microphone=options.microphone,
            threads=options.threads,
            accelerator=options.accelerator,
        )
        return examine_speed(run, frame_rate, tell)
    except UserError as error:
        return failure("accelerator", error, mend=RECOMMENDED)
    except RuntimeError as error:  # what PyTorch raises where a back-end fails in the middle of its work
        reason = str(error).partition("\n")[0]
        says = f"{options.accelerator} does not compute here: {reason}"
        return Finding("accelerator", "failed", says, "stream-run --accelerator eager")
