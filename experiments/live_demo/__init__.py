"""The live demo: a toy inference service on loopback, real requests, real metrics, the real live loop.

A replica is a process that obeys the iteration law; everything around it is what a real service has. `command` is the
command line, `conductor` starts and stops the processes.
"""
