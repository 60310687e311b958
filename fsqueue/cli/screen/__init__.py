"""The screen of ``fsqueue top``.

Modules, from the top down::

    application  the loop: looks, keys, frames
    view         the content of the screen, and what each key changes
    table        the order of a table, and the selected row
    sections     queues, workers and tasks as tables that fit
    terminal     the terminal's modes, its size, keys and output
    keys         names of keys
    cells        styled text in cells, and the least output that changes a screen
"""
