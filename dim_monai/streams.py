"""Named random streams: every draw is a function of (root seed, stream name, position).

Nothing random depends on what was drawn before it. A step can therefore be repeated, a run resumed
and a batch divided among ranks without storing the state of a generator.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def stream_seed(seed: int, *key: str | int) -> int:
    """Return the 32-bit seed of one position of one stream.

    All keys of one stream have the same length: zeros at the end of a key do not count.

    Args:
        seed: root seed of the run, >= 0.
        key: name of the stream and position in it, for example ``("boxes", step)``.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])


def stream_generator(seed: int, *key: str | int) -> torch.Generator:
    """Return a CPU generator at one position of one stream (arguments: :func:`stream_seed`).

    The CPU draws on every device, so that a GPU run sees the boxes that a CPU run sees.
    """
    return torch.Generator().manual_seed(stream_seed(seed, *key))
