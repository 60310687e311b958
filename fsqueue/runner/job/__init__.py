"""A worker as a batch job: when it leaves by itself, its fleet, and what its end interrupts."""
