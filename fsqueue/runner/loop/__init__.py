"""One run of a worker: claims calls, hands them to slots, stops, and maintains the spool."""
