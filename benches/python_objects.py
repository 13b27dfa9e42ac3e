#!/usr/bin/env python3
"""Python's own multiprocessing: locks, semaphores, values, arrays, events, conditions, barriers.

    python3 benches/python_objects.py [--rounds 5] [--millis 200] [--only lock,value]

Prints the columns of `benches/rivals`, to compare with those of its `objects`. `1p` is one process alone, `2p`
are two that do the same to the same object; an event, a condition and a barrier need two. What is counted is
compared with the count at the end. Needs only Python 3.8 and two CPUs, and leaves nothing behind.
"""

import argparse
import os
import time
from math import floor, log10
from multiprocessing import get_context
from statistics import median

CONTEXT = get_context("fork")

# Operations between two reads of the clock.
BATCH = 100


def pin(participant):
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[participant % len(cpus)]})


def take(lock):
    """Acquires and releases."""
    acquire, release = lock.acquire, lock.release

    def batch(count):
        for _ in range(count):
            acquire()
            release()

    return batch


def add(value):
    lock = value.get_lock()

    def batch(count):
        for _ in range(count):
            with lock:
                value.value += 1

    return batch


def load(value):
    def batch(count):
        for _ in range(count):
            value.value

    return batch


def store(array):
    def batch(count):
        for number in range(count):
            array[number & 63] = number

    return batch


def fetch(array):
    def batch(count):
        for number in range(count):
            array[number & 63]

    return batch


# What one process can do alone, and two against each other: how to make the object, and what to do with it.
SHARED = {
    "lock": (CONTEXT.Lock, take),
    "rlock": (CONTEXT.RLock, take),
    "semaphore": (lambda: CONTEXT.Semaphore(1), take),
    "bounded-semaphore": (lambda: CONTEXT.BoundedSemaphore(1), take),
    "value-add": (lambda: CONTEXT.Value("q", 0), add),
    "value-load": (lambda: CONTEXT.Value("q", 0), load),
    "array-get": (lambda: CONTEXT.Array("q", 64), fetch),
    "array-set": (lambda: CONTEXT.Array("q", 64), store),
}


def work(participant, made, start_line, count, answers):
    """Does `count` operations, and sends when it began and ended."""
    subject, act = made
    pin(participant)
    batch = act(subject)
    batch(BATCH)
    start_line.wait()
    start = time.monotonic()
    for _ in range(count // BATCH):
        batch(BATCH)
    answers.send((start, time.monotonic()))


def events(participant, made, start_line, count, answers):
    """One sets an event, the other one answers with another."""
    there, back = made
    pin(participant)
    start_line.wait()
    start = time.monotonic()
    for _ in range(count):
        if participant == 0:
            there.set()
            back.wait()
            back.clear()
        else:
            there.wait()
            there.clear()
            back.set()
    answers.send((start, time.monotonic()))


def condition(participant, made, start_line, count, answers):
    """They take turns, and wait for them."""
    turn, changed = made
    pin(participant)
    start_line.wait()
    start = time.monotonic()
    for _ in range(count):
        with changed:
            while turn.value != participant:
                changed.wait()
            turn.value = 1 - participant
            changed.notify()
    answers.send((start, time.monotonic()))


def barrier(participant, made, start_line, count, answers):
    pin(participant)
    start_line.wait()
    start = time.monotonic()
    for _ in range(count):
        made.wait()
    answers.send((start, time.monotonic()))


def run(side, made, parties, count):
    """How many seconds it takes when each does that many."""
    start_line = CONTEXT.Barrier(parties)
    here, there = CONTEXT.Pipe(duplex=False)
    sides = [
        CONTEXT.Process(target=side, args=(participant, made, start_line, count, there), daemon=True)
        for participant in range(parties)
    ]
    for process in sides:
        process.start()
    there.close()
    times = [here.recv() for _ in sides]
    for process in sides:
        process.join()
    if any(process.exitcode for process in sides):
        raise SystemExit(f"a process of {side.__name__} failed")
    return max(end for _, end in times) - min(start for start, _ in times)


def turn(name, parties, count):
    if name == "event":
        return run(events, (CONTEXT.Event(), CONTEXT.Event()), parties, count)
    if name == "condition":
        return run(condition, (CONTEXT.Value("i", 0, lock=False), CONTEXT.Condition()), parties, count)
    if name == "barrier":
        return run(barrier, CONTEXT.Barrier(parties), parties, count)
    make, act = SHARED[name]
    subject = make()
    elapsed = run(work, (subject, act), parties, count)
    if act is add and subject.value != parties * (count // BATCH + 1) * BATCH:
        raise SystemExit(f"{subject.value} were counted, of {parties} times {count}")
    return elapsed


def calibrate(name, parties, seconds):
    """How many take about so long."""
    count = 2 * BATCH
    while True:
        elapsed = turn(name, parties, count)
        if elapsed >= seconds / 10:
            return max(1, round(count * seconds / elapsed / BATCH)) * BATCH
        count *= 8


def row(case, subject, regime, n, *results):
    cells = " ".join(f"{result:>12} |" for result in results)
    return f"| {case:24} | {subject:17} | {regime:7} | {n:>2} | {cells}"


def number(value):
    """At least three digits that mean something."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}"


def main():
    cases = [(name, parties) for parties in (1, 2) for name in SHARED]
    cases += [("event", 2), ("condition", 2), ("barrier", 2)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millis", type=int, default=200, help="length of one turn")
    parser.add_argument("--only", type=lambda names: names.split(","), default=[], help="parts of the names of cases")
    args = parser.parse_args()
    print(row("case", "subject", "regime", "n", "ns", "min", "max", "k op/s", "op/s"))
    print("|:--|:--|:--|--:|--:|--:|--:|--:|--:|")
    for name, parties in cases:
        case = f"{name}/{parties}p"
        if args.only and not any(part in case for part in args.only):
            continue
        count = calibrate(name, parties, args.millis / 1000)
        # Where two take turns, a pair of turns is one operation.
        each = parties if name in SHARED else 1
        nanos = sorted(turn(name, parties, count) / (each * count) * 1e9 for _ in range(args.rounds))
        middle = median(nanos)
        shown = [number(value) for value in (middle, nanos[0], nanos[-1], 1e6 / middle)]
        print(row(case, "python", "", args.rounds, *shown, round(1e9 / middle)), flush=True)


if __name__ == "__main__":
    main()
