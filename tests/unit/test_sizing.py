"""The model behind the README's section "Sizing", and that its tables are the model's."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench import growth, sizing
from tests.bench.constants import costs_of, costs_table
from tests.bench.growth import Point, Written
from tests.bench.machines import needs, placed
from tests.bench.model import Costs, Host, Machines, Part, Run, Source, full_pages
from tests.bench.plans import HOST, host_sentence, open_source, what_if
from tests.unit.test_readme import section

MIB = 2**20
COSTS = Costs(
    launch_s=0.25,
    start_s=0.15,
    launch_core_s=1.0,
    main_s=1e-6,
    worker_s=4e-6,
    postgres_s=5e-6,
    growth_s=0.5e-6,
    base_events=1e6,
    cluster_factor=1.25,
    page_bytes=350,
    row_bytes=200,
    table_bytes=220,
    index_bytes=80,
    wal_bytes=400,
    full_page_s=20e-6,
    full_page_bytes=4000,
    main_memory=70 * MIB,
    worker_memory=50 * MIB,
)
EVERYTHING = Host(
    cores=16,
    memory_bytes=1e15,
    network_bytes_per_s=1e15,
    connections=10**9,
    commit_s=0.0,
    disk_bytes=1e18,
    disk_bytes_per_s=1e15,
    transfers_per_s=1e15,
    checkpoint_bytes=1e18,
)
PUBLIC = Source(3_000_000, requests=10)


def run(source: Source, sources: int = 1, *, workers: int = 64, host: Host = EVERYTHING, servers: int = 1) -> Run:
    return Run(COSTS, Machines(host, servers=servers, workers=workers), source, sources)


def test_the_public_endpoint_takes_its_59_minutes_and_the_start() -> None:
    assert run(PUBLIC).seconds() == pytest.approx(59 * 60 + 0.4)
    assert run(PUBLIC).first() is Part.API


def test_the_limits_come_in_the_order_in_which_an_event_meets_them() -> None:
    assert list(run(PUBLIC).limits()) == [part for part in Part if part is not Part.STARTS]


OPEN = Source(10_000_000, chains=1000)


@pytest.mark.parametrize(
    ("part", "case", "rate"),
    [
        (Part.API, run(Source(1_000_000, requests=1, window_s=1)), 1_000_000 / 199),
        (Part.LATENCY, run(Source(1_000_000, latency_s=0.495, chains=4)), 4 * 5000 / 0.5),
        (Part.MEMORY, run(PUBLIC, 10, workers=1, host=replace(EVERYTHING, memory_bytes=300 * MIB)), 2 * 3e6 / 3540.4),
        (Part.CONNECTIONS, run(PUBLIC, 10, workers=2, host=replace(EVERYTHING, connections=29)), 9 * 3e6 / 3540.4),
        (Part.MAIN, run(OPEN), 1e6),
        (Part.NETWORK, run(OPEN, host=replace(EVERYTHING, network_bytes_per_s=3.5e6)), 1e4),
        (Part.WORKERS, run(OPEN, workers=1), 1 / (4e-6 + run(OPEN).postgres_s())),
        (Part.WORKERS, run(OPEN, host=replace(EVERYTHING, cores=4), servers=4), 4 / 5e-6),
        (Part.POSTGRES, run(OPEN, 64), 16 / run(OPEN, 64).postgres_s()),
        (Part.COMMIT, run(OPEN, host=replace(EVERYTHING, commit_s=0.05)), 1e5),
        (Part.DISK, run(OPEN, host=replace(EVERYTHING, disk_bytes_per_s=7e7)), 1e5),
        (Part.INDEX, run(OPEN, workers=8, host=replace(EVERYTHING, memory_bytes=8e8, transfers_per_s=1e5)), 325_889),
    ],
)
def test_the_part_that_has_least_is_the_speed(part: Part, case: Run, rate: float) -> None:
    assert case.first() is part
    assert case.rate() == pytest.approx(rate)
    assert case.seconds() == pytest.approx(case.starting_s() + case.events / rate)


def test_runs_of_a_page_each_take_what_their_starts_take() -> None:
    many = run(Source(1000, requests=10), 10_000, workers=1)
    assert many.first() is Part.STARTS
    assert many.seconds() == pytest.approx(10_000 / 16, rel=0.02)


def test_events_that_the_disks_do_not_hold_take_for_ever() -> None:
    host = replace(EVERYTHING, disk_bytes=299 * OPEN.events)
    assert math.isinf(run(OPEN, host=host).seconds())
    assert run(OPEN, host=host).first() is Part.DISK
    assert not math.isinf(run(OPEN, host=host, servers=2).seconds())


def test_on_one_machine_all_share_its_cores_and_no_network() -> None:
    machines = Machines(replace(EVERYTHING, cores=2, network_bytes_per_s=1), workers=2, shared=True, api_s=2e-6)
    small = Run(COSTS, machines, Source(1_000_000, chains=1000))
    assert small.rate() == pytest.approx(2 / (1e-6 + 4e-6 + 5e-6 + 2e-6))


@pytest.mark.parametrize("servers", [1, 3])
def test_the_growth_is_the_mean_over_the_load(servers: int) -> None:
    big = run(Source(64_000_000), servers=servers)
    steps = [64e6 / servers * (number + 0.5) / 10_000 for number in range(10_000)]
    mean = sum(COSTS.postgres_s + COSTS.growth_s * max(0.0, math.log2(held / 1e6)) for held in steps) / len(steps)
    assert big.postgres_s() == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("checkpoint_bytes", [50_000, 1_000_000, 20_000_000])
def test_pages_of_the_index_are_written_whole_at_their_first_change_after_a_checkpoint(checkpoint_bytes: int) -> None:
    pages, chance = 2000, random.Random(7)
    whole = events = 0
    while events < 50_000:  # from one checkpoint to the next
        written, changed = 0.0, set[int]()
        while written < checkpoint_bytes:
            page = chance.randrange(pages)
            written += COSTS.wal_bytes + (0 if page in changed else COSTS.full_page_bytes)
            changed.add(page)
            events += 1
        whole += len(changed)
    assert full_pages(pages, COSTS, checkpoint_bytes) == pytest.approx(whole / events, rel=0.05)


def test_an_index_that_is_in_memory_is_written_once_after_each_checkpoint() -> None:
    often = run(OPEN, workers=8, host=replace(EVERYTHING, checkpoint_bytes=1, transfers_per_s=1e5))
    assert often.rate() == pytest.approx(1e5, rel=0.01)
    assert often.first() is Part.INDEX
    assert often.postgres_s() == pytest.approx(run(OPEN).postgres_s() + 20e-6, rel=0.01)


def test_a_run_on_several_machines_has_a_cluster_and_runs_on_as_many_machines_have_none() -> None:
    one, many = run(OPEN, host=replace(HOST, cores=2)), run(PUBLIC, 100)
    assert not placed(one, 1, 1).machines.cluster
    assert placed(one, 2, 1).machines.cluster
    assert placed(one, 2, 1).limits()[Part.WORKERS] == pytest.approx(2 * 2 / (1.25 * 5e-6))
    assert not placed(many, 100, 1).machines.cluster


def test_what_no_machine_can_speed_up_is_refused() -> None:
    with pytest.raises(ValueError, match="API rate"):
        needs(run(PUBLIC), 3000)


NUMBERS = st.integers(1, 200)


@settings(max_examples=50)
@given(events=st.integers(10**4, 10**12), sources=st.sampled_from([1, 3, 100, 5000]), ingest=NUMBERS, servers=NUMBERS)
def test_another_machine_never_makes_it_slower(events: int, sources: int, ingest: int, servers: int) -> None:
    one = run(Source(max(1, events // sources), latency_s=1.0, chains=16), sources, host=HOST)
    before = placed(one, ingest, servers).seconds()
    if ingest != sources:  # one more is a cluster, which costs the main process more
        assert placed(one, ingest + 1, servers).seconds() <= before
    assert placed(one, ingest, servers + 1).seconds() <= before


@settings(max_examples=25)
@given(
    events=st.integers(10**5, 10**11),
    sources=st.sampled_from([1, 10, 1000]),
    slower=st.floats(1.05, 10),
    chains=st.sampled_from([1, 64, 4096]),
)
def test_what_is_needed_suffices_and_a_machine_less_does_not(
    events: int, sources: int, slower: float, chains: int
) -> None:
    one = run(Source(max(1, events // sources), latency_s=0.1, chains=chains), sources, host=HOST)
    seconds = slower * min(placed(one, number, 4096).seconds() for number in (1, sources, 4096))
    found = needs(one, seconds)
    ingest, servers = found.machines.ingest, found.machines.servers
    assert found.seconds() <= seconds
    assert ingest == 1 or placed(one, ingest - 1, 1 << 20).seconds() > seconds
    assert servers == 1 or placed(one, ingest, servers - 1).seconds() > seconds


def test_what_a_doubling_costs_is_told_from_what_pages_written_whole_cost() -> None:
    def written(events: int, whole: float) -> Written:
        return Written(5e-6 + 0.5e-6 * math.log2(events / 1000) + 100e-6 * whole, 400 + 5000 * whole, whole)

    points = [Point(size, written(size, 0.6), written(size, size / 1e6)) for size in (1000, 2000, 4000)]
    found = growth.constants(points)
    assert found == pytest.approx({"growth_s": 0.5e-6, "full_page_s": 100e-6, "full_page_bytes": 5000})


def test_the_table_of_constants_is_read_as_it_was_written() -> None:
    writers = {"execute_values": COSTS, "copy": replace(COSTS, worker_s=1.23e-6)}
    lines = costs_table(writers)
    found = costs_of("\n".join(["text", *lines, "", "| other | table |"]))
    assert list(found) == list(writers)
    assert costs_table(found) == lines
    assert found["copy"].worker_s == pytest.approx(1.23e-6)


def test_a_table_without_all_constants_is_refused() -> None:
    with pytest.raises(ValueError, match="memory of a worker"):
        costs_of("\n".join(costs_table({"copy": COSTS})[:-1]))


def test_the_case_prints_the_tables_made_of_the_constants_as_they_are_shown() -> None:
    exact = replace(COSTS, worker_s=4.00499e-6)
    ran = {"name": "a run", "writer": "copy", "first": "workers", "predicted_s": 9.0, "measured_s": 10.0, "ratio": 0.9}
    found = {
        "growth": [(600_000, 4.5e-6), (1_200_000, 5e-6)],
        "commit_s": 0.002,
        "api_s": 1e-6,
        "costs": {writer: vars(exact) for writer in ("execute_values", "copy")},
        "runs": [ran],
    }
    told = "\n".join(sizing.text(json.loads(json.dumps(found))))
    costs = costs_of(told)
    assert costs["copy"].worker_s == pytest.approx(4e-6)
    assert "\n".join(what_if(costs["copy"])) in told
    assert "| a run | `copy` | workers | 9.00 s | 10.00 s | 0.90 |" in told


@pytest.mark.parametrize(("ratios", "holds"), [([0.81, 1.19], True), ([1.0, 0.79], False), ([1.21, 1.0], False)])
def test_the_model_holds_where_every_run_is_within_a_fifth(ratios: list[float], holds: bool) -> None:
    assert sizing.holds({"runs": [{"ratio": ratio} for ratio in ratios]}) is holds


def test_the_tables_of_the_readme_are_what_the_model_says_with_its_constants() -> None:
    text = section("Sizing")
    costs = costs_of(text)
    assert "\n".join(what_if(costs["copy"])) in text
    assert "\n".join(open_source(costs)) in text
    assert host_sentence() in " ".join(text.split())
