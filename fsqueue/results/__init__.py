"""Results: waiting for outcomes, opening them, and showing progress."""
