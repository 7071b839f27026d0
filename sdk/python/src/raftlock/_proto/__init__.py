"""Generated from api/raftlock/v1 (make generate); not part of the SDK's interface."""
