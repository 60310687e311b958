"""One attempt of a call, from the claim to the answer that is published."""
