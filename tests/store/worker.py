"""What the processes of test_processes do: ``python -m tests.store.worker URL TASK NUMBER``."""

from __future__ import annotations

import sys
import time

from fettle.store.open import open_store
from tests.store.samples import record, spec


def main(url: str, task: str, number: int) -> None:
    """Print one line per committed step."""
    if task == "open":
        print("ready", flush=True)
        for line in sys.stdin:
            moment, file = line.strip().split(" ", 1)
            while time.time() < float(moment):  # a sleep would spread the processes apart
                pass
            open_store(file).close()
            print("opened", flush=True)
        return
    with open_store(url) as store:
        if task == "hammer":  # everybody joins one job and works on it
            job, created = store.create_job(spec())
            print("created" if created else "joined", job.id, flush=True)
            for i in range(40):
                event = store.append_event(job.id, "trial", {"process": number, "i": i})
                store.add_record(job.id, record(tile=1 + i + number * 20))  # half of them are another's too
                print(event.number, flush=True)
        elif task == "claim":
            job, _ = store.create_job(spec())
            with store.claim_job(job.id):
                print(job.id, flush=True)
                time.sleep(60)
        elif task == "endless":
            job, _ = store.create_job(spec())
            print(job.id, flush=True)
            tile = 0
            while True:
                tile += 1
                store.add_record(job.id, record(tile))
                print("record", tile, flush=True)
                print("event", store.append_event(job.id, "trial", {"trial": tile}).number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
