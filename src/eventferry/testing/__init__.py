"""A kit for the tests of services: a real PostgreSQL, fresh stores, handlers under test.

Its pytest plugin (`plugin`) is loaded wherever eventferry is installed, so nothing is imported here
before it is used. What is not exported is private.
"""
