"""What there is behind the API at this moment: its events, its clock, and the options that it goes by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .dataset import Dataset
from .options import Options


class World:
    """Shared by all threads; whoever changes more than one thing holds `lock`."""

    def __init__(self, dataset: Dataset, options: Options, *, wall: Callable[[], float] = time.time) -> None:
        self.dataset = dataset
        self.options = options
        self.lock = threading.RLock()
        self.origin = ""  # scheme and authority, known when the server listens
        self._hidden = options.reserve
        self._wall = wall

    @property
    def now(self) -> float:
        """Epoch seconds of the server's clock."""
        return self._wall() + self.options.clock_skew

    @property
    def shown(self) -> range:
        """The events that are there now."""
        return range(self._hidden, len(self.dataset))

    def grow(self) -> None:
        """A page was served: new events appear at the head."""
        with self.lock:
            self._hidden = max(0, self._hidden - self.options.grow_per_page)
