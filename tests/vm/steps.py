"""What the scripts that run in booted guests have in common: steps that hold or end the script, commands, files."""
import glob
import json
import re
import struct
import subprocess
import sys
import time


def fail(text):
    print("FAILED " + text, flush=True)
    sys.exit(1)


def ok(text):
    with open("/proc/uptime") as f:
        print("ok %-70s [%s s]" % (text, f.read().split(".")[0]), flush=True)


def check(what, found, wanted):
    if found != wanted:
        fail("%s: found %r, expected %r" % (what, found, wanted))


def run(*cmd, status=0, **more):
    r = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, **more)
    if r.returncode != status:
        fail("%s ended with %d: %s%s" % (" ".join(cmd), r.returncode, r.stdout, r.stderr))
    return r.stdout + (r.stderr if status else "")


def read(path):
    with open(path) as f:
        return f.read().replace("\0", "\n").strip()


def ids(text):
    """"0-2,5" as a sorted list."""
    out = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return sorted(out)


def wait_until(what, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            fail("%d s have passed, and not: %s" % (seconds, what))
        time.sleep(0.2)


def claims():
    return json.loads(run("placer", "ps", "--json"))["claims"]


def node_cpus(node):
    return ids(read("/sys/devices/system/node/node%d/cpulist" % node))


def threads(process):
    """The CPUs that each thread of a process may run on, by its name and id."""
    out = {}
    for status in glob.glob("/proc/%d/task/*/status" % process):
        try:
            text = read(status)
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, cpus = (re.search(r"(?m)^%s:\t(.*)$" % key, text).group(1) for key in ("Name", "Cpus_allowed_list"))
        out["%s %s" % (name, status.split("/")[4])] = ids(cpus)
    return out


def helpers(qemu):
    """The processes beside QEMU that work for the guest: swtpm, and the kernel's vhost threads before Linux 6.4."""
    out = []
    for comm in glob.glob("/proc/[0-9]*/comm"):
        try:
            name, process = read(comm), int(comm.split("/")[2])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name == "vhost-%d" % qemu or name == "swtpm":
            out.append((name, process))
    return out


def firmware(path, touch, again=False):
    """Of a guest: real mode to protected mode, one word to each page from 1 MiB to `touch` MiB, then halt or again."""
    base = 0xFFFF0000                      # where the last 64 KiB below 4 GiB begin
    gdt, gdtr, flat = 0x100, 0x120, 0x40
    rom = bytearray(b"\xf4" * 0x10000)
    start = b"\xfa\x2e\x66\x0f\x01\x16" + struct.pack("<H", gdtr)       # cli; lgdt cs:[gdtr]
    start += b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"                        # protected mode on
    start += b"\x66\xea" + struct.pack("<IH", base + flat, 8)           # far jump to `flat`
    code = b"\x66\xb8\x10\x00\x8e\xd8"                                  # ds = all memory
    code += b"\xbf\x00\x00\x10\x00"                                     # edi = 1 MiB
    code += b"\x89\x3f\x81\xc7\x00\x10\x00\x00"                         # touch; next page
    code += b"\x81\xff" + struct.pack("<I", touch << 20) + b"\x72\xf0"  # until the end
    code += b"\xeb\xe9" if again else b"\xf4\xeb\xfd"                   # back to edi, or halt for good
    rom[0:len(start)] = start
    rom[flat:flat + len(code)] = code
    rom[gdt:gdt + 24] = struct.pack("<QQQ", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    rom[gdtr:gdtr + 6] = struct.pack("<HI", 23, base + gdt)
    rom[0xFFF0:0xFFF3] = b"\xe9\x0d\x00"                                # reset: jump to `start`
    with open(path, "wb") as f:
        f.write(rom)
