"""``python -m fsqueue``, and the entry point of the ``fsqueue`` command."""


def main() -> None:
    """Run the command line."""
    from fsqueue.environment.streams import open_closed_streams, replace_missing_streams

    open_closed_streams()
    replace_missing_streams()
    # Imported here because each process slot imports this module but needs no command line.
    from fsqueue.cli.main import command_line

    command_line(prog_name="fsqueue")


if __name__ == "__main__":
    main()
