from __future__ import annotations

import random
import threading
import time

import pytest

from fettle.backends.host.exclusion import Exclusion
from fettle.graph.errors import Cancelled


def test_measurements_are_alone_and_builds_overlap() -> None:
    exclusion = Exclusion()
    building = measuring = 0
    seen: list[tuple[int, int]] = []
    count = threading.Lock()

    def work(seed: int) -> None:
        nonlocal building, measuring
        rng = random.Random(seed)
        for _ in range(20):
            if rng.random() < 0.3:
                with exclusion.exclusive():
                    measuring += 1
                    seen.append((building, measuring))
                    time.sleep(0.0005)
                    measuring -= 1
            else:
                with exclusion.shared():
                    with count:
                        building += 1
                        seen.append((building, measuring))
                    time.sleep(0.0005)
                    with count:
                        building -= 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(m == 0 or (b, m) == (0, 1) for b, m in seen)
    assert max(b for b, _ in seen) > 1


def test_a_waiting_measurement_goes_before_new_builds() -> None:
    exclusion = Exclusion()
    order: list[str] = []

    def measure() -> None:
        with exclusion.exclusive():
            order.append("measure")

    def build() -> None:
        with exclusion.shared():
            order.append("build")

    with exclusion.shared():
        threads = [threading.Thread(target=measure), threading.Thread(target=build)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert order == ["measure", "build"]


def test_closing_wakes_those_who_wait_and_refuses_those_who_come() -> None:
    exclusion = Exclusion()
    outcomes: list[str] = []

    def measure() -> None:
        try:
            with exclusion.exclusive():
                outcomes.append("measured")
        except Cancelled:
            outcomes.append("cancelled")

    with exclusion.shared():
        thread = threading.Thread(target=measure)
        thread.start()
        time.sleep(0.05)
        exclusion.close()
        thread.join(5)
    assert outcomes == ["cancelled"]
    with pytest.raises(Cancelled), exclusion.shared():
        pass
