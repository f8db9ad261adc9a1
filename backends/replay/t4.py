"""FAIR T4 results (schema 1.x): reading, and writing the trials of a job."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import attrs

from fettle.backends.api import Device, Outcome, Record, Value
from fettle.backends.replay import units
from fettle.backends.replay.document import Node
from fettle.backends.replay.recording import Recording, Row, tabulate
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument

VERSION = "1.0.0"

_OUTCOMES = {
    "correct": Outcome.OK,
    "constraints": Outcome.INVALID,
    "compile": Outcome.COMPILE_ERROR,
    "runtime": Outcome.RUN_ERROR,
    "timeout": Outcome.TIMEOUT,
    "correctness": Outcome.WRONG_RESULT,
}
_INVALIDITY = {outcome: word for word, outcome in _OUTCOMES.items()} | {Outcome.CRASH: "runtime"}


# ------------------------------------------------------------------------------------------------- reading


@attrs.frozen
class _Objective:
    """What all rows minimise."""

    name: str
    unit: str


def read_t4(document: Node, digest: str) -> Recording:
    """The recording of a results file.

    * The objective is the measurement named first in ``objectives``, the same in all rows, and a time. Its ``unit``
      may be empty; then it is ``metadata.timeunit``, and without that milliseconds.
    * ``times.runtimes``, in ``metadata.timeunit``, are the samples.
    * A row is valid if ``invalidity`` is ``correct`` and ``correctness`` is 1.

    Raises:
        InvalidArgument: keys are missing, of the wrong type or contradictory, or no row is valid.
    """
    results = document.field("results").items()
    if not results:
        raise document.field("results").error("there are no results")
    configurations = [result.field("configuration") for result in results]
    parameters, table = tabulate(configurations, _names(configurations))
    metadata = document.optional("metadata") or Node({}, "metadata")
    timeunit = units.time_unit(metadata.optional("timeunit"))
    rows, objective = _rows(results, table, timeunit)
    if objective is None:
        raise document.field("results").error("no configuration is valid")
    name, workload = metadata.optional("device_name"), metadata.optional("workload")
    return Recording(
        digest,
        name.text() if name else "",
        parameters,
        rows,
        objective.unit,
        units.SECONDS[objective.unit],
        workload.value if workload and isinstance(workload.value, str) else "",
        _device(metadata.optional("device")),
    )


def _names(configurations: Sequence[Node]) -> list[str]:
    """Of the parameters, the same in all configurations."""
    names = list(configurations[0].object())
    if not names:
        raise configurations[0].error("there are no parameters")
    for configuration in configurations:
        if configuration.object().keys() != set(names):
            odd = min(configuration.object().keys() ^ set(names))
            raise configuration.error(f"other parameters than {configurations[0].path}: {odd[:64]!r}")
    return names


def _rows(
    results: Sequence[Node], table: Sequence[tuple[Value, ...]], timeunit: str
) -> tuple[tuple[Row, ...], _Objective | None]:
    """A row of each result, and the objective that the valid ones share; None if none is valid."""
    rows = []
    found: _Objective | None = None
    for result, values in zip(results, table, strict=True):
        outcome = _outcome(result)
        if outcome is not Outcome.OK:
            rows.append(_failed(result, values, outcome))
            continue
        measurement, objective = _objective(result, timeunit)
        if found is None:
            found = objective
        elif objective != found:
            raise measurement.error(f"the objective is {objective.name} in {objective.unit}, but first it was "
                                    f"{found.name} in {found.unit}")  # fmt: skip
        value = measurement.field("value")
        value.seconds(units.SECONDS[objective.unit])
        runtimes = result.field("times").optional("runtimes")
        scale = units.SECONDS[timeunit]
        samples = runtimes.all_seconds(scale) if runtimes else ()
        rows.append(Row(values, outcome, value.number(), samples, energy=_energy(result)))
    return tuple(rows), found


def _device(node: Node | None) -> Device | None:
    """The device that :func:`t4_document` wrote; what others may call a device is not read."""
    if node is None or not isinstance(node.value, dict) or "backend" not in node.value:
        return None
    try:
        return codec.from_data(Device, node.value)
    except InvalidArgument as error:
        raise node.error(error.message) from None


def _outcome(result: Node) -> Outcome:
    invalidity = result.field("invalidity")
    outcome = _OUTCOMES.get(invalidity.text())
    if outcome is None:
        raise invalidity.error(f"{invalidity.text()[:64]!r} is none of {' '.join(_OUTCOMES)}")
    if outcome is Outcome.OK and result.field("correctness").number() < 1.0:
        return Outcome.WRONG_RESULT
    return outcome


def _failed(result: Node, values: tuple[Value, ...], outcome: Outcome) -> Row:
    """A failure. Measurements may say it more exactly than ``invalidity``; ours do (``crash``)."""
    message = result.optional("message")
    text = message.text() if message else ""
    measurements = result.optional("measurements")
    for measurement in measurements.items() if measurements else ():
        value = measurement.optional("value")
        if value is not None and isinstance(value.value, str):
            if value.value in {o.value for o in _INVALIDITY if _INVALIDITY[o] == _INVALIDITY[outcome]}:
                outcome = Outcome(value.value)
            elif message is None:
                text = value.value
    return Row(values, outcome, message=text if message is not None else text or _INVALIDITY[outcome])


def _objective(result: Node, timeunit: str) -> tuple[Node, _Objective]:
    """The measurement that is minimised, with its name and unit."""
    objectives = result.field("objectives").items()
    if not objectives:
        raise result.field("objectives").error("there is no objective")
    name = objectives[0].text()
    for measurement in result.field("measurements").items():
        if measurement.field("name").text() == name:
            unit = measurement.optional("unit")
            if (unit is None or not unit.text().strip()) and "time" not in name.lower():
                raise objectives[0].error(f"{name[:64]!r} has no unit and does not look like a time")
            return measurement, _Objective(name, units.time_unit(unit, timeunit))
    raise result.field("measurements").error(f"the objective {name[:64]!r} is missing")


def _energy(result: Node) -> float | None:
    for measurement in result.field("measurements").items():
        if measurement.field("name").text() == "energy":
            unit = measurement.optional("unit")
            if unit is not None and unit.value == "J":
                return measurement.field("value").number()
    return None


# ------------------------------------------------------------------------------------------------- writing


def t4_document(records: Sequence[Record], *, created: float, device_name: str = "") -> dict[str, Any]:
    """The trials of one workload as a T4 document of plain data; :func:`read_t4` reads back the same.

    Times are seconds. ``measurements[0].value`` of a failure is its outcome; ``message`` (beyond the schema, which
    allows it) says more. What T4 has no field for (policy, features, predictions, artifacts) stays behind.

    Args:
        created: Unix seconds; T4 wants a timestamp with each result, and trials do not keep theirs.
        device_name: the hardware's name.
    """
    timestamp = datetime.datetime.fromtimestamp(created, datetime.UTC).isoformat(sep=" ")
    metadata: dict[str, Any] = {"timeunit": "seconds", "device_name": device_name}
    if records:
        metadata |= {
            "workload": str(records[0].candidate.workload),
            "device": codec.to_data(records[0].candidate.device),
            "basis": records[0].measurement.basis.value,
            "space_version": records[0].space_version,
        }
    results = [_result(record, timestamp) for record in records]
    return {"metadata": metadata, "schema_version": VERSION, "results": results}


def _result(record: Record, timestamp: str) -> dict[str, Any]:
    measurement = record.measurement
    outcome = measurement.outcome
    if outcome is Outcome.OK and not record.verified:
        outcome = Outcome.WRONG_RESULT
    valid = outcome is Outcome.OK
    measurements: list[dict[str, Any]] = [
        {"name": "time", "value": measurement.time if valid else outcome.value, "unit": "s"}
    ]
    if valid and measurement.energy is not None:
        measurements.append({"name": "energy", "value": measurement.energy, "unit": "J"})
    result: dict[str, Any] = {
        "timestamp": timestamp,
        "configuration": record.candidate.schedule.as_dict(),
        "times": {"runtimes": list(measurement.samples)} if valid else {},
        "invalidity": _INVALIDITY[outcome],
        "correctness": 1 if valid else 0,
        "measurements": measurements,
        "objectives": ["time"],
    }
    if not valid:
        result["message"] = measurement.message
    return result
