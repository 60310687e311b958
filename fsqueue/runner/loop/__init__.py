"""One run of a worker: claims calls, hands them to slots, stops, and looks after the spool."""
