"""State that the calls of one worker share: permits, resources, and the list of live calls."""
