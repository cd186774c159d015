"""A consumer of fedora-messaging that does nothing but acknowledge. Prints how long so many messages took."""

import json
import os
import time

from fedora_messaging import exceptions

COUNT = int(os.environ["INTAKE_COUNT"])
seen = 0
begun = None


def callback(_message):
    global seen, begun
    if begun is None:
        begun = time.perf_counter()
    seen += 1
    if seen == COUNT:
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)
        raise exceptions.HaltConsumer()
