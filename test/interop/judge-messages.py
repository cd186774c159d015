"""Reads messages recorded by fedora-messaging, validates each as its class does, and tells what a reader sees of it."""

import json
import sys

from fedora_messaging import message

with open(sys.argv[1], encoding="utf-8") as recorded:
    for line in recorded:
        if not line.strip():
            continue
        (loaded,) = message.loads(line)
        loaded.validate()
        print(
            json.dumps(
                {
                    "class": type(loaded).__name__,
                    "id": loaded.id,
                    "topic": loaded.topic,
                    "severity": loaded.severity,
                    "summary": loaded.summary,
                    "text": str(loaded),
                    "containers": loaded.containers,
                    "schema": getattr(type(loaded), "body_schema", {}),
                }
            )
        )
