"""One training of two steps, and when its first step began; ``scale.py`` starts it.

    python benchmarks/scale_start.py DATA OUT MEMORY_GB

Prints a JSON object: seconds from the first line of this file to the first step and to the end, on
the wall and of the processor, and the peak of anonymous memory in GB, which is what a process
cannot give back; the system's copies of files do not count.
"""

from __future__ import annotations

import time

START = time.perf_counter()

import json  # noqa: E402 - importing is a part of the start
import re  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from threading import Event, Thread  # noqa: E402

import torch  # noqa: E402
from ignite.engine import Events  # noqa: E402
from monai.bundle import ConfigWorkflow  # noqa: E402
from scale_data import TRAIN, settings  # noqa: E402

INTERVAL_S = 0.02


class Peak(Thread):
    """Looks at the memory of this process until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.over = 0, Event()

    def run(self) -> None:
        """Look again and again."""
        while not self.over.wait(INTERVAL_S):
            self.bytes = max(self.bytes, anonymous_bytes())


def anonymous_bytes() -> int:
    """Return the memory of this process that is no copy of a file."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    if found is None:
        raise RuntimeError("this system does not tell RssAnon")
    return int(found[1]) * 1024


def seconds() -> tuple[float, float]:
    """Return what has passed on the wall, and what the processor has worked."""
    return time.perf_counter() - START, time.process_time()


def main() -> None:
    """Train and print."""
    data, out, memory_gb = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(1)
    peak = Peak()
    peak.start()
    workflow = ConfigWorkflow(
        config_file=str(TRAIN),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(TRAIN.parents[1]),
        **settings(data, out, memory_gb),
    )
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    first: list[tuple[float, float]] = []
    trainer.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: first.append(seconds()))
    workflow.run()
    peak.over.set()
    told = {"first_step": first[0], "end": seconds(), "peak_gb": peak.bytes / 1e9}
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
