"""What the spool offers beyond publishing and claiming calls: one mechanism each."""
