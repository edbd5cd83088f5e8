"""`eventferry dev` and `eventferry store`: what a service talks to and runs, on a laptop.

`database` creates what is missing on a server, `server` is one of our own in a folder, `session`
puts together what one service needs, and `reload` keeps its worker at the newest code.
"""
