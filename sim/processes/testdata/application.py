"""An application in Python that does what the test tells it.

Orders and answers are those of order_test.go, one line of JSON each; the process
ends, without a word to the agent, when its input does.
"""

import gc
import json
import os
import sys
import threading
import time

import raftlock

NANOS = 1_000_000_000


def clock():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Application:
    def __init__(self):
        self.client = None
        self.locks = {}
        self.out = threading.Lock()

    def obey(self, order):
        answer = {"id": order["id"], "began": clock()}
        try:
            getattr(self, "do_" + order["do"])(order, answer)
        except raftlock.RaftLockError as err:
            over = isinstance(err, TimeoutError)
            answer["failure"] = {
                "text": str(err), "reason": err.reason, "applied": err.applied, "over": over,
            }  # fmt: skip
        except Exception as err:
            answer["failure"] = {"text": repr(err), "reason": "", "applied": "", "over": False}
        answer.setdefault("ended", clock())
        with self.out:
            print(json.dumps(answer), flush=True)

    def do_open(self, order, answer):
        self.client = raftlock.Client(order["socket"], ttl=order["ttl"] / NANOS)
        self.client.status()
        answer["pid"] = os.getpid()

    def do_lock(self, order, answer):
        take = self.client.try_lock if order.get("try") else self.client.lock
        held = take(order["lock"], timeout=(order.get("patience") or 30 * NANOS) / NANOS)
        answer["ended"] = clock()
        self.locks[order["lock"]] = held
        answer["token"], answer["deadline"] = held.token, round(held.deadline * NANOS)

    def do_unlock(self, order, answer):
        self.locks[order["lock"]].release()

    def do_check(self, order, answer):
        held = self.locks[order["lock"]]
        answer["valid"], answer["deadline"] = held.valid(), round(held.deadline * NANOS)
        answer["token"] = held.token

    def do_fork(self, order, answer):
        """Do all that can be done to a handle in a child, and end that."""
        held = self.locks[order["lock"]]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                assert not held.valid(), "valid"
                held.release()
                held.__exit__(None, None, None)
                self.client.close()
                self.locks.clear()
                self.client = None
                del held
                gc.collect()
            except BaseException as err:
                print(repr(err), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)  # sdk/python's tests end it by the interpreter's own way too
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the child ended with {status}"
        answer["pid"] = child


def main():
    application = Application()
    for line in sys.stdin:
        threading.Thread(target=application.obey, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


main()
