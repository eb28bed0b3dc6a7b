"""Ask placer's daemon where on this NUMA host a guest should run.

    import numaplacer
    print(numaplacer.advise("4:8G").nodes)              # CPUs:memory
    with numaplacer.claim("4:8G", hold=60) as claim:    # chosen and claimed in one step
        start_the_guest(claim.advice.nodes, claim.advice.cpus)

A request is "CPUS" or "CPUS:MEMORY": CPUs with up to two decimals, memory in MiB or with K, M, G or
T (binary). Lists of nodes and CPUs are text as the kernel writes them ("0-3,8"); `ids` reads one.
All memory is in bytes, all times are in seconds.

Each function opens a connection. A `Client` keeps one for many questions; threads may share it, and
their questions wait for each other. A forked child opens its own. The socket is placer.sock in
$PLACER_STATE_DIR, or /run/placer/placer.sock.

Standard library alone, Python 3.8 or later. The interface is org.placer.Daemon, a varlink interface
that `placer daemon` describes.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Tuple, Type, TypeVar

__all__ = [
    "Advice", "Busy", "CacheShare", "Claim", "ClaimRow", "Client", "NoAnswer", "NotAllowed", "NotClaimed",
    "PlacerError", "Refused", "Share", "Unavailable", "advise", "claim", "claims", "host", "ids", "release",
    "request",
]
__version__ = "0.1.0"

# An answer is far smaller: more is not read.
_ANSWER_MAX = 64 << 20
_UNITS = {"": 20, "K": 10, "M": 20, "G": 30, "T": 40}
_INTERFACE = "org.placer.Daemon."
# CPUs, memory, its unit.
_match_request = re.compile(r"(\d+\.?\d{0,2}|\.\d{1,2})(?::(\d+)([KMGT]?))?", re.ASCII).fullmatch
# What `json.loads` calls: reads the value that a text begins with, and returns where it ends.
_decode = json.JSONDecoder().raw_decode
# A call of Advise that asks for CPUs and bytes alone.
_ADVISE = '{"method": "' + _INTERFACE + 'Advise", "parameters": {"request": {"cpus": %r, "memory": %d}}}\0'


class PlacerError(Exception):
    """Anything that went wrong between this program and placer."""


class Unavailable(PlacerError):
    """No daemon answers: it does not run, it ended, or it did not answer in time."""


class Refused(PlacerError):
    """The daemon does not know the call or a value in it. `parameters` says which."""

    def __init__(self, error: str, parameters: Mapping[str, Any]) -> None:
        self.error, self.parameters = error, dict(parameters)
        said = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
        super().__init__(f"placer refused the call: {error.rpartition('.')[2]} {said}".rstrip())


class NoAnswer(PlacerError):
    """There is no node for the request, or the host cannot be read."""


class NotClaimed(PlacerError):
    """The guest does not fit, or the claim could not be written: nothing is claimed."""


class NotAllowed(PlacerError):
    """Another user's claim or process, or more than this user may claim."""


class Busy(PlacerError):
    """The daemon has too much to do. Ask again later."""


@dataclass(frozen=True)
class Share:
    """One node's part of a guest."""

    node: int
    cpus: float
    memory: int


@dataclass(frozen=True)
class CacheShare:
    """The CPUs below one last-level cache. `level` is 0 and `size` None where the cache is not known."""

    node: int
    level: int
    size: Optional[int]
    cpus: str


@dataclass(frozen=True)
class Advice:
    """Where a guest should run. `whole` is all of the answer, as `placer advise --json` prints it."""

    nodes: str
    cpus: str
    fits: bool
    split: Tuple[Share, ...]
    caches: Tuple[CacheShare, ...]
    slowdown: Optional[float]
    notes: Tuple[str, ...]
    whole: Mapping[str, Any]


@dataclass(frozen=True)
class ClaimRow:
    """A claim that counts. `pid` is None for a hold; `whole` is the row of `placer ps --json`."""

    id: str
    kind: str
    pid: Optional[int]
    program: Optional[str]
    ends_in: Optional[float]
    cpus: float
    memory: int
    nodes: str
    whole: Mapping[str, Any]


_T = TypeVar("_T")


def _made(kind: Type[_T], parts: Dict[str, Any]) -> _T:
    """Makes a frozen dataclass of all its fields at once: its __init__ sets them one by one, the slow way."""
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", parts)
    return made


# Each of these takes the fields that it has: a later placer may send more.


def _share(value: Mapping[str, Any]) -> Share:
    return _made(Share, {"node": value["node"], "cpus": value["cpus"], "memory": value["memory"]})


def _cache_share(value: Mapping[str, Any]) -> CacheShare:
    parts = {"node": value["node"], "level": value["level"], "size": value["size"], "cpus": value["cpus"]}
    return _made(CacheShare, parts)


def _advice(reply: Mapping[str, Any]) -> Advice:
    try:
        value = reply["advice"]
        parts = {
            "nodes": value["nodes"],
            "cpus": value["cpus"],
            "fits": value["fits"],
            "split": tuple([_share(share) for share in value.get("split", ())]),
            "caches": tuple([_cache_share(share) for share in value.get("caches", ())]),
            "slowdown": value["slowdown"],
            "notes": tuple(value.get("notes", ())),
            "whole": value,
        }
    except KeyError as error:
        raise Refused("answer", {"lacks": str(error)}) from None
    return _made(Advice, parts)


_ROW = tuple(field.name for field in fields(ClaimRow) if field.name != "whole")


def _claim_row(value: Mapping[str, Any]) -> ClaimRow:
    try:
        return ClaimRow(whole=value, **{name: value[name] for name in _ROW})
    except KeyError as error:
        raise Refused("answer", {"lacks": str(error)}) from None


def ids(text: str) -> List[int]:
    """Reads a list of nodes or CPUs: "0-2,8" is [0, 1, 2, 8]."""
    found: List[int] = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def request(text: str, *, machine_wide: bool = False, **more: Any) -> Dict[str, Any]:
    """Reads "CPUS[:MEMORY]"; `more` are other fields of a request of the interface, as in within="0-3".

    As `placer advise` does, it says which CPUs and nodes this process may use. With `machine_wide`
    it does not: for a guest that another program starts. Memory limits of control groups are not
    looked at.
    """
    cpus, size = _amounts(text)
    made: Dict[str, Any] = {"cpus": cpus, "memory": size}
    if not machine_wide:
        made.update(_allowed())
    made.update(more)
    return made


def _amounts(text: str) -> Tuple[float, int]:
    """The CPUs and the bytes of a request."""
    found = _match_request(text)
    if found is None:
        cpus, _, memory = text.partition(":")
        if _match_request(cpus) is None:
            raise ValueError(f"request {text!r}: expected CPUs with at most two decimals, found {cpus!r}")
        raise ValueError(f"request {text!r}: expected MiB, or a number and K, M, G or T, found {memory!r}")
    cpus, number, unit = found.groups("")
    amount = float(cpus)
    if amount == math.inf:
        raise ValueError(f"request {text!r}: more CPUs than can be counted")
    return amount, int(number or 0) << _UNITS[unit]


def _allowed() -> Dict[str, str]:
    names = {"Cpus_allowed_list:": "allowed_cpus", "Mems_allowed_list:": "allowed_nodes"}
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
        lines = (line.split(None, 1) for line in status)
        return {names[line[0]]: line[1].strip() for line in lines if len(line) == 2 and line[0] in names}


class Claim:
    """A claim. Leaving its `with` block ends it; `keep` lets it live on, with its process or its hold."""

    def __init__(self, client: "Client", id: str, advice: Advice, own: bool) -> None:
        self.id, self.advice = id, advice
        self._client: Optional[Client] = client
        self._own = own

    def keep(self) -> str:
        """Lets the claim live as long as its process or its hold, and returns its id."""
        self._forget()
        return self.id

    def release(self) -> None:
        """Ends the claim. More than once is no error."""
        if self._client is not None:
            try:
                self._client.release(self.id)
            except NotAllowed:
                if any(row.id == self.id for row in self._client.claims()):
                    raise
                # It has ended by itself: its hold is over, or its process gone.
            finally:
                self._forget()

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._own:
            client.close()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<claim {self.id} on nodes {self.advice.nodes}>"


class Client:
    """A connection to the daemon, opened at the first question, and anew once if the daemon was restarted."""

    def __init__(self, path: Optional[str] = None, *, timeout: float = 30.0) -> None:
        state = os.environ.get("PLACER_STATE_DIR") or "/run/placer"
        self.path = path or os.path.join(state, "placer.sock")
        self.timeout = timeout
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._pid = 0

    def advise(self, text: str, *, machine_wide: bool = False, **more: Any) -> Advice:
        """Where a guest should run. Nothing is claimed: `fits` says whether there is room."""
        if machine_wide and not more:
            # Without json.dumps, which takes longer than all else here that is not the daemon's.
            return _advice(self._call((_ADVISE % _amounts(text)).encode()))
        return _advice(self.call("Advise", request=request(text, machine_wide=machine_wide, **more)))

    def claim(
        self,
        text: str,
        *,
        hold: Optional[float] = None,
        pid: Optional[int] = None,
        machine_wide: bool = False,
        **more: Any,
    ) -> Claim:
        """Chooses and claims in one step: for `hold` seconds, else for process `pid` (this one) as long as it lives.

        Raises NotClaimed if the guest does not fit. A claim that is asked for twice since the
        connection was lost is made once.
        """
        asked: Dict[str, Any] = {"request": request(text, machine_wide=machine_wide, **more)}
        if hold is not None:
            if pid is not None:
                raise ValueError("a claim lasts for a hold or for a process, not both")
            asked["hold_ms"] = round(hold * 1000)
        else:
            # 0 is this process, in whatever pid namespace it is.
            asked["pid"] = pid or 0
        reply = self.call("AdviseAndClaim", nonce=secrets.token_hex(16), **asked)
        return Claim(self, reply["claim"], _advice(reply), own=False)

    def release(self, id: str) -> ClaimRow:
        """Ends a claim."""
        return _claim_row(self.call("Release", claim=id)["released"])

    def claims(self) -> List[ClaimRow]:
        """The claims that count."""
        return [_claim_row(row) for row in self.call("Guests")["claims"]]

    def host(self) -> Mapping[str, Any]:
        """How the host is built and how full it is, as `placer show --json` prints it."""
        found: Mapping[str, Any] = self.call("Host")["host"]
        return found

    def call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """Calls any method of org.placer.Daemon that answers once, and returns its reply."""
        return self._call(json.dumps({"method": _INTERFACE + method, "parameters": parameters}).encode() + b"\0")

    def _call(self, text: bytes) -> Mapping[str, Any]:
        with self._lock:
            try:
                reply = _parse(self._ask_again(text, time.monotonic() + self.timeout))
                error = reply.get("error")
                answer: Mapping[str, Any] = reply.get("parameters") or {}
                if not isinstance(answer, dict):
                    raise ValueError("its answer has no parameters")
            except (OSError, EOFError, ValueError, AttributeError) as error:
                self._disconnect()
                said = "it did not answer in time" if isinstance(error, socket.timeout) else error
                raise Unavailable(
                    f"no answer from placer's daemon at {self.path}: {said}; "
                    "systemctl start placer.service starts it"
                ) from error
            except BaseException:
                # Interrupted in the middle: what is left of this answer is nobody's.
                self._disconnect()
                raise
        if error is not None:
            raise _fault(str(error), answer)
        return answer

    def close(self) -> None:
        """Closes the connection. The next question opens it again."""
        with self._lock:
            self._disconnect()

    def _ask_again(self, text: bytes, deadline: float) -> str:
        """Asks, and anew while a daemon that was connected starts again: the nonce of a claim holds for both."""
        lost = False
        while True:
            try:
                return self._ask(text, deadline)
            except (BrokenPipeError, ConnectionResetError, EOFError):
                if lost:
                    raise
                lost = True
            except (ConnectionRefusedError, FileNotFoundError):
                if not lost or time.monotonic() >= deadline:
                    raise
            self._disconnect()
            time.sleep(0.05)

    def _ask(self, text: bytes, deadline: float) -> str:
        daemon = self._socket
        if daemon is None or self._pid != os.getpid():
            daemon = self._connect()
        try:
            daemon.sendall(text)
            found = part = daemon.recv(1 << 16)
            while not found.endswith(b"\0"):
                if not part:
                    raise EOFError("it closed the connection")
                if len(found) > _ANSWER_MAX:
                    raise ValueError(f"its answer is longer than {_ANSWER_MAX} bytes")
                if time.monotonic() >= deadline:
                    raise socket.timeout
                part = daemon.recv(1 << 16)
                found += part
        except BlockingIOError:
            raise socket.timeout from None
        return found[:-1].decode()

    def _connect(self) -> socket.socket:
        # After a fork the connection is the parent's.
        self._disconnect()
        self._pid = os.getpid()
        daemon = self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # The kernel keeps the time: with a timeout of Python's own, each call would poll first.
        limit = struct.pack("ll", int(self.timeout), max(1, int(self.timeout % 1 * 1e6)))
        daemon.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        daemon.connect(self.path)
        return daemon

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _parse(text: str) -> Dict[str, Any]:
    """Reads an answer: a JSON object, for other values lack `get`."""
    text = text.strip(" \t\r\n")
    value, end = _decode(text)
    if end != len(text):
        raise ValueError("its answer is more than one value")
    return value  # type: ignore[no-any-return]


def _fault(error: str, parameters: Mapping[str, Any]) -> PlacerError:
    reason = str(parameters.get("reason", ""))
    kinds = {"Failed": NoAnswer, "NotClaimed": NotClaimed, "NotAllowed": NotAllowed}
    name = error[len(_INTERFACE):] if error.startswith(_INTERFACE) else ""
    if name in kinds:
        return kinds[name](reason.removeprefix("placer: ") if hasattr(str, "removeprefix") else reason)
    if name == "Busy":
        return Busy("placer's daemon has too much to do; ask again later")
    return Refused(error, parameters)


def advise(text: str, **more: Any) -> Advice:
    """Where a guest should run; see `Client.advise`."""
    with Client() as client:
        return client.advise(text, **more)


def claim(text: str, **more: Any) -> Claim:
    """Chooses and claims in one step; see `Client.claim`."""
    client = Client()
    try:
        made = client.claim(text, **more)
    except BaseException:
        client.close()
        raise
    made._own = True
    return made


def release(id: str) -> ClaimRow:
    """Ends a claim."""
    with Client() as client:
        return client.release(id)


def claims() -> List[ClaimRow]:
    """The claims that count."""
    with Client() as client:
        return client.claims()


def host() -> Mapping[str, Any]:
    """How the host is built and how full it is, as `placer show --json` prints it."""
    with Client() as client:
        return client.host()
