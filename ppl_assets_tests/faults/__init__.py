"""Faults, tested by doing them: processes killed, disks filled, files damaged, clocks set. `make test-faults`."""
