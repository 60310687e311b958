"""System calls, clocks, wake-ups and identities. Knows no calls."""
