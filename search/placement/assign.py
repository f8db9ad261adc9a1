"""Three ways to place operators: by operations per byte, greedily, and exactly."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.graph.errors import Unsupported
from fettle.graph.solver import cp_solver
from fettle.graph.workload import Workload
from fettle.search.placement.costs import CostTable, Place
from fettle.search.placement.work import Edge

Assignment = tuple[int, ...]

_PROBE_ROWS = tuple(1 << i for i in range(11))
_UNIT = 1e-10
"""Seconds per unit of the exact model's integer objective."""


def crossing(low: Place, high: Place, probe: Workload) -> float:
    """Operations per byte from which ``high`` is faster than ``low``: of ``probe``, a product, with more and more rows.

    The rows are doubled until it is, then bisected. Infinity if 1024 rows do not suffice.
    """
    slower = 0
    for rows in _PROBE_ROWS:
        if _is_faster(high, low, _with_rows(probe, rows)):
            while rows - slower > 1:
                middle = (rows + slower) // 2
                if _is_faster(high, low, _with_rows(probe, middle)):
                    rows = middle  # noqa: PLW2901 (bisection)
                else:
                    slower = middle
            found = _with_rows(probe, rows)
            return float(found.flops / found.nbytes)
        slower = rows
    return float("inf")


def _is_faster(one: Place, other: Place, workload: Workload) -> bool:
    return _seconds(one, workload) < _seconds(other, workload)


def by_intensity(table: CostTable) -> Assignment:
    """Duplex's rule (2409.01141): few operations per byte go to memory that computes, many to the processor.

    The rule is calibrated on one product: of those that run most often, the one with most traffic. Places are ordered
    by how fast they are on one row of it. An operator takes the place with the highest crossing that lies below its
    operations per byte. Places that cannot run it are passed over. Duplex's places share one memory; ours do not, so if
    all operators in one place take less than so divided, transfers included, they stay together.
    """
    probe = _with_rows(_typical_product(table), 1)
    order = sorted(range(len(table.places)), key=lambda p: _seconds(table.places[p], probe))
    first = table.places[order[0]]
    thresholds = {p: 0.0 if p == order[0] else crossing(first, table.places[p], probe) for p in order}
    chosen = []
    for number, operator in enumerate(table.work.operators):
        able = [p for p in order if table.costs[number][p] is not None]
        below = [p for p in able if thresholds[p] <= operator.intensity]
        chosen.append(max(below, key=lambda p: thresholds[p]) if below else able[0])
    together = [(place,) * len(chosen) for place in order]
    return min((tuple(chosen), *together), key=table.total)


def _typical_product(table: CostTable) -> Workload:
    products = [o for o in table.work.operators if o.workload.operator == "matmul"]
    if not products:
        return Workload.of("matmul", m=1, n=4096, k=4096, act="bf16", weight="bf16")
    return max(products, key=lambda o: (o.count, o.workload.nbytes)).workload


def _with_rows(product: Workload, rows: int) -> Workload:
    return Workload(product.operator, tuple((name, str(rows) if name == "m" else v) for name, v in product.fields))


def _seconds(place: Place, workload: Workload) -> float:
    cost = place.cost(workload)
    return float("inf") if cost is None else cost.seconds


def greedy(table: CostTable) -> Assignment:
    """Operators in order, each where it and the transfers from operators already placed take least."""
    chosen: list[int] = []
    for operator in range(len(table.work.operators)):
        incoming = [e for e in table.work.edges if e.target == operator and e.source < operator]

        def seconds(place: int, operator: int = operator, incoming: Sequence[Edge] = incoming) -> float:
            moved = (e.count * table.link.seconds(e.nbytes) for e in incoming if chosen[e.source] != place)
            return float(table.seconds(operator, place) + sum(moved))

        chosen.append(min(range(len(table.places)), key=seconds))
    return tuple(chosen)


def exact(table: CostTable, seconds: float = 20.0) -> Assignment:
    """The least total, by CP-SAT.

    Raises:
        Unsupported: not solved to the end in time.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    places = range(len(table.places))
    at = [[model.new_bool_var(f"{o}@{p}") for p in places] for o in range(len(table.work.operators))]
    terms = []
    for operator, choices in enumerate(at):
        model.add_exactly_one(choices)
        for place, choice in enumerate(choices):
            if table.costs[operator][place] is None:
                model.add(choice == 0)
            else:
                terms.append(round(table.seconds(operator, place) / _UNIT) * choice)
    for edge in table.work.edges:
        apart = model.new_bool_var("")
        for place in places:  # apart unless both are at one place
            model.add_implication(at[edge.source][place], at[edge.target][place]).only_enforce_if(apart.negated())
        terms.append(round(edge.count * table.link.seconds(edge.nbytes) / _UNIT) * apart)
    model.minimize(sum(terms))
    solver = cp_solver(seconds=seconds)
    solver.solve(model)
    if solver.status_name() != "OPTIMAL":
        raise Unsupported(f"{table.work.name} was not placed exactly in {seconds:g} s", hint="place it greedily")
    return tuple(next(p for p in places if solver.value(choices[p])) for choices in at)
