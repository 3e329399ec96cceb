"""Memory: the verified fake, and the disk of the simulator."""
