"""Asks placer's daemon on one connection of the Python client: client.py PATH COUNT CPUS:MEMORY

Prints the nodes of the last answer, the lowest and the median time of an answer in nanoseconds, and how many
descriptors, objects and KiB of memory of its own there are more than after the first tenth of the questions.
"""
import array
import gc
import os
import sys
import time

import numaplacer


def usage():
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        resident, shared = (int(pages) for pages in statm.read().split()[1:3])
    return len(os.listdir("/proc/self/fd")), len(gc.get_objects()), (resident - shared) * os.sysconf("SC_PAGE_SIZE") // 1024


path, count, asked = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# Not a list: its numbers would be objects that stay.
times = array.array("q", bytes(8 * count))
with numaplacer.Client(path) as client:
    for i in range(count):
        if i == count // 10:
            usage()  # makes what it needs itself
            before = usage()
        start = time.perf_counter_ns()
        nodes = client.advise(asked, machine_wide=True).nodes
        times[i] = time.perf_counter_ns() - start
    more = [now - then for then, now in zip(before, usage())]
ranked = sorted(times)
print(nodes, ranked[0], ranked[count // 2], *more)
