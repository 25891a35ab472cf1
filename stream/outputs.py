"""Where estimates go: the sinks that the options mean. What an output's own packages are is imported only for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.description import bundle_status
from stream.extras import require_extra
from stream.mqtt.sink import MqttSink
from stream.mqtt.topics import default_publisher_id
from stream.options import LSL_NAME
from stream.page.options import page_options
from stream.sinks.log import LogSink
from stream.sinks.record import RecordSink
from stream.status import package_version
from stream.view.labels import LabelledTrajectory
from stream.view.terminal import TerminalSink

if TYPE_CHECKING:
    from stream.build import LoadedParts
    from stream.controls import Controls
    from stream.metrics.sink import MetricsSink
    from stream.mqtt.connection import BrokerAddress
    from stream.options import OutputOptions
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
        sinks.append(
            TerminalSink(options.view, broker=broker, page=page.url() if page else "", labels=labels)
        )
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
