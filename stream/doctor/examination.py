"""The whole examination: everything that a live run would use, one after the other, in the order of that run."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from models.accelerate.select import Preference
from models.bundle.load import load_bundle
from models.errors import UserError
from models.spec import WindowSpec
from models.visual.detectors import HaarDetector, make_detector
from stream.broker.credentials import is_embedded
from stream.build import choose_detector, find_bundle
from stream.doctor.broker import examine_broker
from stream.doctor.cameras import FIRST_PICTURE_S, LOOK_S, examine_camera, no_camera
from stream.doctor.deadline import within
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
from stream.doctor.options import NONE, shown
from stream.doctor.parts import examine_parts, examine_recogniser, judge_bundle
from stream.doctor.permissions import System
from stream.doctor.speed import examine_speed
from stream.options import InputOptions, parse_detector
from stream.session import default_threads, use_threads
from stream.sources.devices import (
    OPEN_TIMEOUT_S,
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

    from models.bundle.load import Bundle
    from models.visual.detectors import FaceDetector
    from stream.doctor.options import DoctorOptions
    from stream.options import DetectorChoice
    from stream.sources.devices import Kind
    from stream.sources.reader import Opener

BLOCKED_S: Final = OPEN_TIMEOUT_S + FIRST_PICTURE_S + 5.0
"""How long a device may take beyond the time that it is looked through or listened to."""


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
    for this machine's.
    """
    detector_choice = parse_detector(options.detector)
    begin = ClockReading.now()
    system = system or System.here()
    if devices is None:
        devices = await asyncio.to_thread(list_devices)
    found = [judge_versions(installed_versions([*NEEDED, *OPTIONAL]))]

    tell("the bundle and its parts, read and checked")
    bundle, about_parts = await asyncio.to_thread(_examine_bundle, options.bundle)
    manifest = None if bundle is None else bundle.manifest
    frame_rate = manifest.recipe.frame_rate if manifest else WindowSpec().frame_rate
    serving = detector_choice if bundle is None else choose_detector(detector_choice, bundle)
    about_parts += await asyncio.to_thread(examine_parts, serving)
    heard = options.microphone != NONE
    about_parts += (await asyncio.to_thread(examine_recogniser, options.recogniser, manifest, heard=heard),)
    found += _told_once(about_parts)

    looks_s, listens_s = options.seconds or LOOK_S, options.seconds or LISTEN_S
    detector = await asyncio.to_thread(_detector, detector_choice, bundle)
    cameras = _cameras(options, devices)
    if not cameras and options.camera != NONE:
        found.append(no_camera(system))
    about_cameras: list[Finding] = []
    for name in cameras:
        tell(f"camera {shown(name)}, {looks_s:g} s")
        look_through = partial(_examine_camera, name, detector, frame_rate, system, opener, looks_s)
        about_cameras.append(await within(BLOCKED_S + looks_s, look_through, _blocked("camera", name)))
    found += _first_must_serve(about_cameras)

    if (microphone := _microphone(options)) is not None:
        tell(f"microphone {shown(microphone)}, {listens_s:g} s: say something")
        listen_to = partial(_examine_microphone, microphone, system, opener, listens_s)
        found.append(await within(BLOCKED_S + listens_s, listen_to, _blocked("microphone", microphone)))

    if options.broker != NONE:
        tell("broker embedded" if is_embedded(options.broker) else "the broker")
        found.append(
            await examine_broker(
                options.broker, files=options.broker_files, publisher_id=options.publisher_id
            )
        )
    # A part that failed fails the whole again: it has been told, and what is left cannot be measured.
    if bundle is not None and not any(finding.state == "failed" for finding in about_parts):
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
        bundle = load_bundle(find_bundle(name), missing_parts="tolerate")
    except UserError as error:
        return None, (failure(f"bundle {name}", error, mend="name another one with --bundle"),)
    return bundle, judge_bundle(bundle)


def _told_once(found: tuple[Finding, ...]) -> list[Finding]:
    """A damaged part has a finding of its own where nothing fails for it."""
    failed = {finding.says for finding in found if finding.state == "failed"}
    return [finding for finding in found if finding.state == "failed" or finding.says not in failed]


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


def _blocked(kind: Kind, name: str) -> Finding:
    """The finding about a device that does not answer at all."""
    subject = shown(name) if is_live(name) else f"{kind} {name}"
    mend = f"unplug it and plug it in again, or give another one with --{kind}"
    return Finding(subject, "failed", "it does not answer: what asks it for something waits for ever", mend)


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
        Preference.parse(options.accelerator)
    except UserError as error:
        return failure("accelerator", error)
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
        return failure("loading", error)
    except RuntimeError as error:  # what PyTorch raises where a back-end fails in the middle of its work
        reason = str(error).partition("\n")[0]
        says = f"{options.accelerator} does not compute here: {reason}"
        return Finding("accelerator", "failed", says, "stream-run --accelerator eager")
