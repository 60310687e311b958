"""Results on their way back: waiting for outcomes, opening them, and showing progress."""
