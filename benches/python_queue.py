#!/usr/bin/env python3
"""Python's own multiprocessing.Queue, one producer and one consumer.

    python3 benches/python_queue.py [--rounds 5] [--millis 500]

Prints the columns of `benches/rivals`, to compare with those of its `mpmc -- --only bytes`. Every message is a
new bytes object that ends in its number, and the consumer reads all of its bytes; a lost, repeated or damaged
message ends the run with an error. Needs only Python 3.8 and two CPUs, and leaves nothing behind.
"""

import argparse
import os
import time
from multiprocessing import get_context
from statistics import median
from zlib import crc32

SIZES = [8, 64, 1 << 10, 64 << 10]

# Messages that the queue holds, as in `mpmc`.
SLOTS = 1024


def pin(participant):
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[participant % len(cpus)]})


def message(number, body):
    return body + number.to_bytes(8, "little")


def produce(queue, start_line, size, count):
    pin(0)
    body = bytes(size - 8)
    start_line.wait()
    for number in range(count):
        queue.put(message(number, body))


def consume(queue, start_line, size, count, answers):
    pin(1)
    body_sum = crc32(bytes(size - 8))
    start_line.wait()
    start = time.monotonic()
    intact = True
    for number in range(count):
        received = queue.get()
        # With the body's checksum carried on, only the whole message gives this one.
        intact &= crc32(received) == crc32(number.to_bytes(8, "little"), body_sum)
    answers.send((time.monotonic() - start, intact))


def turn(size, count):
    """Returns the seconds that `count` messages take."""
    context = get_context("fork")
    queue, start_line = context.Queue(SLOTS), context.Barrier(2)
    here, there = context.Pipe(duplex=False)
    sides = [
        context.Process(target=produce, args=(queue, start_line, size, count), daemon=True),
        context.Process(target=consume, args=(queue, start_line, size, count, there), daemon=True),
    ]
    for side in sides:
        side.start()
    there.close()
    elapsed, intact = here.recv()
    for side in sides:
        side.join()
    if not intact or any(side.exitcode for side in sides):
        raise SystemExit(f"{count} messages of {size} bytes did not arrive as they were sent")
    return elapsed


def calibrate(size, seconds):
    """How many messages take about so long."""
    count = 256
    while True:
        elapsed = turn(size, count)
        if elapsed >= seconds / 10:
            return max(1, round(count * seconds / elapsed))
        count *= 8


def row(case, subject, regime, n, *results):
    cells = " ".join(f"{result:>12} |" for result in results)
    return f"| {case:24} | {subject:17} | {regime:7} | {n:>2} | {cells}"


def number(value):
    return f"{value:#.3g}".rstrip(".")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millis", type=int, default=500, help="length of one turn")
    args = parser.parse_args()
    print(row("case", "subject", "regime", "n", "M msg/s", "min", "max", "GB/s", "msg/s"))
    print("|:--|:--|:--|--:|--:|--:|--:|--:|--:|")
    for size in SIZES:
        count = calibrate(size, args.millis / 1000)
        speeds = sorted(count / turn(size, count) for _ in range(args.rounds))
        middle = median(speeds)
        shown = [number(speed / 1e6) for speed in (middle, speeds[0], speeds[-1])]
        print(
            row(f"bytes/{size}x{SLOTS}", "python", "", args.rounds, *shown, number(middle * size / 1e9), round(middle)),
            flush=True,
        )


if __name__ == "__main__":
    main()
