"""``python -m fsqueue``, and the entry point of the ``fsqueue`` command."""


def main() -> None:
    """Run the command line."""
    # Imported here: each process of a slot imports this module, and needs no command line.
    from fsqueue.cli.main import app

    app(prog_name="fsqueue")


if __name__ == "__main__":
    main()
