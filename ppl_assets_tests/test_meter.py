"""What a step takes: processor time and peaks that the step itself caused."""

import numpy as np

from ppl_assets.meter import Meter, total_time

MEBIBYTE = 1 << 20


def test_the_peak_is_that_of_the_step_and_not_of_what_came_before():
    np.ones(64 * MEBIBYTE // 8)  # used and given back before the meter starts
    meter = Meter()
    idle = meter.read("cpu")["peak_bytes"]
    held = np.ones(96 * MEBIBYTE // 8)
    busy = meter.read("cpu")["peak_bytes"]
    assert 90 * MEBIBYTE < busy - idle < 200 * MEBIBYTE
    assert held.size


def test_device_seconds_of_a_processor_are_time_that_it_worked():
    meter = Meter()
    total = sum(index * index for index in range(1_000_000))
    first = meter.read("cpu")
    assert first["device_seconds"] > 0
    assert first["seconds"] > 0
    again = sum(index * index for index in range(1_000_000))
    assert meter.read("cpu")["device_seconds"] > first["device_seconds"]
    assert total == again


def test_readings_are_added_up_and_belong_to_the_device_that_took_most():
    readings = [
        {"seconds": 4.0, "device": "cpu", "device_seconds": 1.0},
        {"seconds": 3.0, "device": "cuda", "device_seconds": 3.0},
        {"seconds": 2.0, "device": "cuda", "device_seconds": 2.0},
    ]
    assert total_time(readings) == {"seconds": 9.0, "device": "cuda", "device_seconds": 6.0}
