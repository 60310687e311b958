"""The protocol on disk. `store` moves the files; `layout` names them; see docs/design."""
