"""What an export holds back."""

from __future__ import annotations

import pytest

from datasync_ingest.errors import IncompleteError
from datasync_ingest.export import require_all


def test_ids_that_were_read_before_the_last_events_came_are_no_whole_export() -> None:
    require_all(ids=3, events=3)
    require_all(ids=4, events=3)  # they came after the counting
    with pytest.raises(IncompleteError, match="2 IDs were read, and then 3 events counted"):
        require_all(ids=2, events=3)
