"""numaplacer against a daemon. Run by tests/it/python.rs, which starts one on the recorded host ring-4
(4 nodes of 2 CPUs); by hand: PLACER_STATE_DIR=DIR python3 -m unittest discover bindings/python/tests
(or pytest), with `placer daemon --root sysfs-fixtures/ring-4` of the same PLACER_STATE_DIR.
"""

import json
import os
import resource
import socket
import sys
import tempfile
import threading
import time
import unittest
import weakref

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import numaplacer  # noqa: E402

WIDE = {"machine_wide": True}


def alive():
    return {row.id for row in numaplacer.claims()}


class Requests(unittest.TestCase):
    def test_a_request_is_read_as_placer_reads_it(self):
        read = lambda text: numaplacer.request(text, machine_wide=True)
        self.assertEqual(read("4:500"), {"cpus": 4.0, "memory": 500 << 20})
        self.assertEqual(read("2.25:8G"), {"cpus": 2.25, "memory": 8 << 30})
        self.assertEqual(read("1"), {"cpus": 1.0, "memory": 0})
        self.assertEqual(read("04.:010K"), {"cpus": 4.0, "memory": 10 << 10})
        self.assertEqual(read(".5:1T"), {"cpus": 0.5, "memory": 1 << 40})
        for bad in ["", "x", "9" * 400, "1\n", "1:1\n", "1 ", "1:", "1:8Q", "1:-8", "-1", "1.234", "1:8G:2", "1e3", "\u0661", ".", "1:G"]:
            with self.assertRaises(ValueError, msg=bad):
                read(bad)

    def test_lists_are_read(self):
        self.assertEqual(numaplacer.ids("0-2,8"), [0, 1, 2, 8])
        self.assertEqual(numaplacer.ids(""), [])

    def test_a_process_says_what_it_may_use(self):
        mine = numaplacer.request("1")
        self.assertEqual(set(numaplacer.ids(mine["allowed_cpus"])), os.sched_getaffinity(0))
        self.assertIn("allowed_nodes", mine)


class Answers(unittest.TestCase):
    def test_advice(self):
        advice = numaplacer.advise("2:100", **WIDE)
        self.assertEqual((advice.fits, advice.whole["fits"]), (True, True))
        self.assertEqual([share.node for share in advice.split], numaplacer.ids(advice.nodes))
        self.assertEqual(sum(share.memory for share in advice.split), 100 << 20)
        self.assertEqual(advice.split[0].cpus, 2.0)
        self.assertTrue(numaplacer.ids(advice.cpus))
        with self.assertRaises(AttributeError):
            advice.nodes = "7"

    def test_fields_of_the_interface_are_passed_on(self):
        self.assertEqual(numaplacer.advise("1:10", within="2", **WIDE).nodes, "2")
        self.assertEqual(numaplacer.advise("1:10", near=3, **WIDE).nodes, "3")
        with self.assertRaises(numaplacer.Refused) as caught:
            numaplacer.advise("1:10", policy="fair", **WIDE)
        self.assertIn("fair", str(caught.exception))
        with self.assertRaises(numaplacer.Refused):
            numaplacer.advise("1:10", frobnicate=1, **WIDE)

    def test_what_this_process_may_not_use_is_not_advised(self):
        advice = numaplacer.advise("1:10", allowed_cpus="6-7", allowed_nodes="0-3")
        self.assertEqual((advice.nodes, advice.cpus), ("3", "6-7"))

    def test_the_host(self):
        self.assertEqual([node["id"] for node in numaplacer.host()["nodes"]], [0, 1, 2, 3])


class Claims(unittest.TestCase):
    def test_a_claim_counts_until_its_block_ends(self):
        with numaplacer.claim("1:50", hold=60, **WIDE) as made:
            self.assertIn(made.id, alive())
            self.assertTrue(made.advice.nodes)
        self.assertNotIn(made.id, alive())
        made.release()

    def test_a_claim_is_for_this_process(self):
        with numaplacer.claim("1:50", **WIDE) as made:
            row = next(row for row in numaplacer.claims() if row.id == made.id)
            self.assertEqual((row.kind, row.pid, row.memory), ("process", os.getpid(), 50 << 20))

    def test_a_claim_that_is_kept_lives_on(self):
        with numaplacer.claim("1:50", hold=60, **WIDE) as made:
            id = made.keep()
        self.assertIn(id, alive())
        self.assertEqual(numaplacer.release(id).id, id)
        with self.assertRaises(numaplacer.NotAllowed):
            numaplacer.release(id)

    def test_a_claim_that_ended_by_itself_is_no_error(self):
        with numaplacer.claim("1:50", hold=60, **WIDE) as made:
            numaplacer.release(made.id)

    def test_what_does_not_fit_is_not_claimed(self):
        before = alive()
        with self.assertRaises(numaplacer.NotClaimed):
            numaplacer.claim("1:1T", hold=60, **WIDE)
        self.assertEqual(alive(), before)
        with self.assertRaises(ValueError):
            numaplacer.claim("1:1", hold=1, pid=os.getpid())

    def test_eight_threads_share_a_client(self):
        made, errors = [], []
        with numaplacer.Client() as client:
            def work():
                try:
                    for _ in range(10):
                        made.append(client.claim("0.01:1", hold=60, **WIDE))
                except Exception as error:  # shown below
                    errors.append(error)
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, [])
            self.assertEqual(len({claim.id for claim in made}), 80)
            self.assertLessEqual({claim.id for claim in made}, alive())
            for claim in made:
                claim.release()


class Connections(unittest.TestCase):
    def serve(self, *replies):
        """A daemon that gives each connection one of these replies, then closes it."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        path = os.path.join(place.name, "placer.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        self.addCleanup(listener.close)
        seen = []

        def run():
            for reply in replies:
                stream = listener.accept()[0]
                with stream:
                    seen.append(stream.recv(1 << 16))
                    if reply is None:
                        stream.recv(1)  # says nothing until the client goes
                    else:
                        stream.sendall(reply)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return path, seen, thread

    def test_no_daemon(self):
        with self.assertRaises(numaplacer.Unavailable) as caught:
            numaplacer.Client("/nowhere/placer.sock").host()
        self.assertIn("/nowhere/placer.sock", str(caught.exception))

    def test_a_daemon_that_ends_is_asked_again_with_the_same_name_for_the_claim(self):
        path, seen, thread = self.serve(b"", b'{"error": "org.placer.Daemon.Busy"}\0')
        with self.assertRaises(numaplacer.Busy):
            numaplacer.Client(path).claim("1:1", hold=1, **WIDE)
        thread.join()
        self.assertEqual(seen[0], seen[1])
        self.assertIn(b'"nonce"', seen[0])

    def test_a_daemon_that_says_nothing_is_waited_for_that_long(self):
        path, _, _ = self.serve(None)
        start = time.monotonic()
        with self.assertRaises(numaplacer.Unavailable):
            numaplacer.Client(path, timeout=0.2).host()
        self.assertLess(time.monotonic() - start, 30)

    def test_whatever_comes_is_an_error_of_ours(self):
        for reply in [b"\0", b"[]\0", b'{"parameters": [1]}\0', b"{} {}\0", b'{"parameters": {}}\0', b"nonsense\0", b"\xff\0", b'{"parameters": {}\0', b"half an answer"]:
            path, _, _ = self.serve(reply, reply)
            with self.assertRaises(numaplacer.PlacerError, msg=reply):
                numaplacer.Client(path).advise("1", **WIDE)
        path, _, _ = self.serve(b'{"parameters": {"advice": {}}}\0')
        with self.assertRaises(numaplacer.PlacerError):
            numaplacer.Client(path).advise("1", **WIDE)

    def test_a_plain_question_is_the_one_that_request_makes(self):
        for asked in ["4:500", "0.01", "99999.99:3T", "9" * 300, ".5:1K"]:
            path, seen, thread = self.serve(b' {"error": "org.placer.Daemon.Busy"} \n\0')
            with self.assertRaises(numaplacer.Busy):
                numaplacer.Client(path).advise(asked, **WIDE)
            thread.join()
            wanted = {"method": "org.placer.Daemon.Advise", "parameters": {"request": numaplacer.request(asked, **WIDE)}}
            self.assertEqual(json.loads(seen[0][:-1]), wanted)

    def test_a_forked_child_has_a_connection_of_its_own(self):
        with numaplacer.Client() as client:
            client.host()
            child = os.fork()
            if child == 0:
                try:
                    ok = all(client.advise("1:10", **WIDE).nodes for _ in range(50))
                finally:
                    os._exit(0 if ok else 1)
            for _ in range(50):
                client.advise("1:10", **WIDE)
            self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_questions_leak_nothing(self):
        count = int(os.environ.get("QUESTIONS", "5000"))
        with numaplacer.Client() as client:
            def ask(times):
                for _ in range(times):
                    client.advise("1:10", **WIDE)
            ask(1000)
            descriptors = len(os.listdir("/proc/self/fd"))
            before = resource.getrusage(resource.RUSAGE_SELF)
            ask(count)
            after = resource.getrusage(resource.RUSAGE_SELF)
            self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)
            self.assertLess(after.ru_maxrss - before.ru_maxrss, 2048, "KiB")
            cost = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count
            print(f"{count} questions, {cost * 1e6:.0f} us of CPU each, {after.ru_maxrss - before.ru_maxrss} KiB more",
                  file=sys.stderr)
        gone = weakref.ref(client)
        del client
        self.assertIsNone(gone())


if __name__ == "__main__":
    unittest.main()
