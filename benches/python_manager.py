#!/usr/bin/env python3
"""Python's own multiprocessing.Manager: a dict and a list of its server, and UltraDict if it is there.

    python3 benches/python_manager.py [--rounds 5] [--millis 200] [--only get,64]

Prints columns like those of `benches/rivals --bin maps`, to compare with them: one process that does nothing
else, 256 keys, values of 64 B. Needs Python 3.8 and two CPUs. UltraDict takes part if it can be imported
(`pip install UltraDict atomics`). Leaves nothing behind.
"""

import argparse
import time
from multiprocessing import get_context
from statistics import median

# Operations between two reads of the clock.
BATCH = 64
KEYS = [str(number) for number in range(256)]


def get(table, count, value):
    for number in range(count):
        table[KEYS[number & 255]]


def update(table, count, value):
    for number in range(count):
        table[KEYS[number & 255]] = value


def insert_remove(table, count, value):
    """Two operations each, as there."""
    for number in range(count // 2):
        key = f"new {number & 255}"
        table[key] = value
        del table[key]


def append(table, count, value):
    for _ in range(count):
        table.append(value)


def ultra_dict():
    try:
        from UltraDict import UltraDict
    except ImportError as error:
        print(f"UltraDict takes no part: {error}")
        return None
    return UltraDict(buffer_size=1 << 20)


def turn(operation, table, seconds, value):
    """Nanoseconds of one operation."""
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < seconds:
        operation(table, BATCH, value)
        count += BATCH
    return (time.perf_counter() - began) / count * 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millis", type=int, default=200, help="length of one turn")
    parser.add_argument("--only", type=lambda names: names.split(","), default=[], help="parts of the names of cases")
    args = parser.parse_args()
    with get_context("fork").Manager() as manager:
        subjects = [("manager", manager.dict()), ("ultra-dict", ultra_dict()), ("dict", {})]
        cases = [("get/64", get), ("update/64", update), ("insert+remove/64", insert_remove)]
        turns = [
            (name, subject, operation, table)
            for name, operation in cases
            for subject, table in subjects
            if table is not None
        ]
        turns += [("append/64", "manager", append, manager.list()), ("append/64", "list", append, [])]
        turns = [each for each in turns if not args.only or any(part in each[0] for part in args.only)]
        value = bytes(64)
        for _, _, _, table in turns:
            if hasattr(table, "update"):
                table.update({key: value for key in KEYS})
        results = [[] for _ in turns]
        for _ in range(args.rounds):
            for result, (_, _, operation, table) in zip(results, turns):
                result.append(turn(operation, table, args.millis / 1000, value))
        print("| case                     | subject         |    M op/s |        ns |       min |       max |")
        print("|:--|:--|--:|--:|--:|--:|")
        for result, (name, subject, _, table) in zip(results, turns):
            middle = median(result)
            figures = [f"{1e3 / middle:>9.3f}"] + [f"{nanos:>9.1f}" for nanos in (middle, min(result), max(result))]
            print(f"| {name:24} | {subject:15} | {' | '.join(figures)} |")
        for _, subject, _, table in turns:
            if subject == "ultra-dict":
                table.unlink()
                break


if __name__ == "__main__":
    main()
