"""The backlog of a worker: what it may claim, and in which order.

folder    the pending attempts of one folder, at a cost that does not grow with their number
arrivals  the calls that file events report as new in a folder
worker    which attempt of all queues and folders is next
"""
