"""The on-disk protocol. `store` moves the files, and `layout` names them; see docs/design."""
