"""The backlog of a worker: what it may claim, and in which order.

folder    the pending attempts of one folder, at a cost that does not grow with their number
arrivals  the calls that come to a folder, as file events name them
worker    which attempt of all queues and folders is next
"""
