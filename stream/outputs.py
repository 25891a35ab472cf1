"""Where estimates go: the sinks that the options mean. An extra's packages are imported only where it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stream.description import bundle_status
from stream.extras import require_extra
from stream.mqtt.sink import MqttSink
from stream.mqtt.topics import default_publisher_id
from stream.options import LSL_NAME
from stream.page.options import page_options
from stream.session_folder.facts import describe
from stream.session_folder.layout import MEDIA
from stream.session_folder.options import check_session
from stream.session_folder.tapped import TappedSource
from stream.sinks.log import LogSink
from stream.sinks.record import RecordSink
from stream.status import package_version
from stream.view.keys import TerminalKeys, has_keys
from stream.view.labels import LabelledTrajectory
from stream.view.terminal import TerminalSink

if TYPE_CHECKING:
    from stream.broker.connection import BrokerAddress
    from stream.build import LoadedParts
    from stream.controls import Controls
    from stream.metrics.sink import MetricsSink
    from stream.options import InputOptions, OutputOptions
    from stream.session_folder.sink import SessionSink
    from stream.sinks.base import Sink


def make_sinks(
    options: OutputOptions, broker: BrokerAddress | None, controls: Controls, parts: LoadedParts
) -> list[Sink]:
    """Log, record, broker, LSL, metrics, page and terminal, as far as they are asked for; nothing is opened yet.

    `broker` is the address that `options.broker` means; `controls` take the commands and markers that come from
    there; `parts` are what estimates will be of. Raises UserError for labels that cannot be read, for an id, a rate
    or an address that cannot be used, and where an extra is not installed.
    """
    sinks: list[Sink] = [LogSink(options.publisher_id, refused=parts.runtime.notes)]
    if options.record is not None:
        sinks.append(RecordSink(options.record, overwrite=options.overwrite))
    if broker is not None:
        sinks.append(
            MqttSink(
                broker,
                publisher_id=options.publisher_id,
                rate=options.rate,
                publish_transcript=options.publish_transcript,
                controls=controls,
                home_assistant=options.home_assistant_prefix if options.home_assistant else None,
            )
        )
    if options.lsl:
        sinks.append(_lsl_sink(options, parts))
    if options.lsl_markers:
        from stream.lsl.markers import LslMarkers

        sinks.append(LslMarkers(controls))
    page = page_options(options)
    metrics = None if options.metrics is None and page is None else _metrics_sink(options)
    if metrics is not None:
        sinks.append(metrics)
    if page is not None and metrics is not None:
        from stream.metrics.serving import metrics_route
        from stream.page.sink import PageSink

        beside = [metrics_route(metrics.registry)]
        words = options.publish_transcript
        sinks.append(PageSink(page, controls, publish_transcript=words, routes=beside))
    if options.view != "none":
        labels = None if options.labels is None else LabelledTrajectory.read(options.labels)
        # A port that the system is to choose is not known yet: the page says it itself.
        shown_at = page.url() if page is not None and page.port else ""
        sinks.append(TerminalSink(options.view, broker=broker, page=shown_at, labels=labels))
        if has_keys():
            sinks.append(TerminalKeys(controls))
    return sinks


def _lsl_sink(options: OutputOptions, parts: LoadedParts) -> Sink:
    from stream.lsl.outlets import StreamDescription
    from stream.lsl.sink import LslSink

    info = parts.source.info
    return LslSink(
        StreamDescription(
            name=options.lsl_name or LSL_NAME,
            publisher=options.publisher_id or default_publisher_id(),
            source=info.name,
            frame_rate=info.frame_rate,
            live=parts.source.live,
            bundle=bundle_status(parts.bundle),
            detector=parts.detector.name,
            accelerator=parts.runtime.name,
            version=package_version(),
        )
    )


def _metrics_sink(options: OutputOptions) -> MetricsSink:
    """Of an address of its own, or of none: a page serves it too."""
    require_extra("page", "prometheus_client", "--metrics" if options.metrics else "--page")
    from stream.metrics.address import MetricsAddress
    from stream.metrics.sink import MetricsSink

    return MetricsSink(None if options.metrics is None else MetricsAddress.parse(options.metrics))


def keep_session(
    input_options: InputOptions, output_options: OutputOptions, parts: LoadedParts
) -> tuple[LoadedParts, SessionSink | None]:
    """The sink that keeps a session where one is asked for, and the parts, their source tapped where media are kept.

    Nothing is written yet. Raises UserError for what `stream.session_folder.options.check_session` refuses.
    """
    folder = output_options.session
    check_session(
        folder, output_options.participant, output_options.notes, keep_media=output_options.keep_media
    )
    if folder is None:
        return parts, None
    from stream.session_folder.media import MediaKeeper
    from stream.session_folder.sink import SessionSink

    media = None
    if output_options.keep_media:
        media = MediaKeeper(folder / MEDIA, parts.source.info, live=parts.source.live)
    facts = describe(
        input_options,
        output_options,
        bundle=parts.bundle,
        source=parts.source,
        detector=parts.detector.name,
        recogniser=parts.recogniser.name if parts.new_recogniser is not None else None,
        accelerator=parts.runtime.name,
    )
    tapped = parts if media is None else replace(parts, source=TappedSource(parts.source, media.offer))
    return tapped, SessionSink(folder, facts, media)
