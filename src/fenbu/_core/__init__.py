"""The pure core: a state machine of partitions. No I/O, no clock, no threads, no randomness, no logging."""
