"""Expositions of several processes as one: every sample gets the label `process`.

Sums over processes are the reader's business: a counter that Greenroom added up would fall when a
process ends, and Prometheus would take that for a reset of them all.
"""

from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class _Merged(Collector):
    def __init__(self, expositions: Mapping[str, bytes]) -> None:
        self._expositions = expositions

    def collect(self) -> list[Metric]:
        families: dict[str, Metric] = {}
        for process, text in self._expositions.items():
            for family in _parsed(process, text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, "process": process}))
        return list(families.values())


def _parsed(process: str, text: bytes) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(text.decode()))
    except ValueError:
        # One process that answers nonsense must not take the others' numbers away.
        structlog.get_logger("greenroom.metrics").warning("exposition not readable", process=process)
        return []


def merged(expositions: Mapping[str, bytes]) -> bytes:
    """Prometheus's text format. What is not in that format is left out, and logged."""
    registry = CollectorRegistry()
    registry.register(_Merged(expositions))
    return generate_latest(registry)
