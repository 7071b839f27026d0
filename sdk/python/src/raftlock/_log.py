"""The logger "raftlock": streams broken (debug), locks lost and releases that linger (warning)."""

from __future__ import annotations

import logging

log = logging.getLogger("raftlock")
log.addHandler(logging.NullHandler())
