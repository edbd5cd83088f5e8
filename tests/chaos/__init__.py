"""What goes wrong between two services and their stores, all of it, at seeded moments.

`proxy` stands before each store, `supervisor` runs the workers, `writer` appends and remembers
what it knows of it, `fault` says what goes wrong and when, `landscape` puts them together and
checks what is there in the end. `handlers` is deployed with the services.
"""
