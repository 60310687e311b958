"""``fsqueue metrics``: numbers for Prometheus and other programs that read OpenMetrics."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

import click

from fsqueue.cli.command import option, subcommand
from fsqueue.cli.inspect.metric_families import ended, queues, recently, results, up, workers
from fsqueue.cli.options import json_option, needs, on_target
from fsqueue.cli.output import print_json
from fsqueue.cli.overview import looks
from fsqueue.errors import ConfigError, FSQueueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry, Metric

    from fsqueue.cli.finding.target import Target


log: logging.Logger = logging.getLogger(__name__)

_HERE = "127.0.0.1"


@subcommand("metrics", "metrics --listen 9464")
@needs("prometheus_client", "metrics", "metrics need")
@on_target
@option(
    "--listen",
    type=click.IntRange(min=0, max=65_535),
    metavar="PORT",
    help="Serve the metrics to this host until Ctrl-C; 0 picks a free port.",
)
@json_option
def command(target: Target, listen: int | None, as_json: bool) -> None:
    """Print metrics of the spool as OpenMetrics text, or serve them.

    With --listen there are also counters, which start at 0 with this command. Only programs on
    this host can connect (127.0.0.1), and all of them may.

    Needs the extra fsqueue-tasks[metrics].
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics import exposition

    registry = CollectorRegistry()
    source = Source(target, counters=listen is not None)
    if listen is not None:
        registry.register(source)
        _serve(registry, listen)
    elif as_json:
        print_json({"metrics": [_document(family) for family in source.read()]})
    else:
        # Read before writing: this command reports an error as such, not as a metric.
        families = list(source.read())
        registry.register(_Fixed(families))
        text: bytes = cast("Any", exposition).generate_latest(registry)
        sys.stdout.write(text.decode())


def _document(family: Metric) -> dict[str, object]:
    samples = [
        {"name": each.name, "labels": each.labels, "value": each.value} for each in family.samples
    ]
    return {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": samples,
    }


def _serve(registry: CollectorRegistry, port: int) -> None:
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, _HERE, registry)
    except OSError as error:
        raise ConfigError(f"--listen: cannot use port {port} of {_HERE}: {error}") from error
    print(f"http://{_HERE}:{server.server_port}/metrics", flush=True)
    try:
        thread.join()
    except KeyboardInterrupt:
        server.shutdown()
        thread.join()
    finally:
        server.server_close()


class _Fixed:
    """A collector of metrics that have already been read."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


class Source:
    """A collector that reads the spool each time that it is asked.

    Args:
        target: the spool.
        counters: also report counters of the calls that have ended since the start.
    """

    def __init__(self, target: Target, *, counters: bool) -> None:
        self._looks = looks(target)
        self._counters = counters
        self._mutex = threading.Lock()

    def describe(self) -> list[Metric]:
        """Empty, so that registering the collector does not read the spool."""
        return []

    def collect(self) -> list[Metric]:
        """The metrics; while the shared directory fails, only ``fsqueue_up 0``."""
        try:
            return list(self.read())
        except (OSError, FSQueueError) as error:
            log.warning("no metrics: %s", error)
            return [up(0)]

    def read(self) -> Iterator[Metric]:
        """The metrics.

        Raises:
            OSError: the shared directory fails.
        """
        with self._mutex:
            glance = self._looks.take() if self._counters else self._looks.look()
            snapshot, recent = glance.snapshot, glance.recent
            yield up(1)
            yield from queues(snapshot)
            yield from workers(snapshot, recent)
            yield from results(snapshot)
            yield from recently(recent)
            if self._counters:
                yield from ended(self._looks.totals)
