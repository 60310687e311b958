"""A report on a period or a run, as one file to take home.

Modules, from the top down::

    page        the report as one HTML file
    tables      its lists
    rows        numbers as text and as columns of charts
    elements    HTML in which no text of the spool is markup
    redaction   removes what identifies people, hosts and data
    gather      reads a spool, or a copy of its journal alone
    attempts    a pass over the lines of the journal
    facts       what a report says
"""
