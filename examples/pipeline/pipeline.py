#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pipeline in three stages. Shard 7 of its input has a column too few, and the second stage raises."""
import time

COLUMNS = 12


def read_shard(number):
    header = {f"c{i}": i for i in range(COLUMNS if number != 7 else COLUMNS - 1)}
    return number, header


def load(shards):
    out = []
    for i in range(shards):
        out.append(read_shard(i))
        print(f"load: shard {i + 1}/{shards}", flush=True)
        time.sleep(0.1)
    return out


def column(header, name):
    try:
        return header[name]
    except KeyError as e:
        raise ValueError(f"expected {COLUMNS} columns, found {len(header)}") from e


def clean(shards):
    for i, (number, header) in enumerate(shards):
        if column(header, f"c{COLUMNS - 1}") < 0:
            raise RuntimeError(f"shard {number} is empty")
        print(f"clean: shard {i + 1}/{len(shards)}", flush=True)
        time.sleep(0.1)
    return shards


def fit(shards):
    for epoch in range(3):
        print(f"fit: epoch {epoch + 1}/3, loss {1 / (epoch + len(shards)):.3f}", flush=True)


def main():
    print("pipeline: 10 shards", flush=True)
    fit(clean(load(10)))
    print("pipeline: done", flush=True)


if __name__ == "__main__":
    main()
