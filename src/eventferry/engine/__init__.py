"""What a batch does, in the one transaction that its checkpoint moves in.

`ferry` for producing projections; `_async` and, generated from it, `_sync` for consuming ones,
whose handlers are `async def` or `def`. Both use `locking`; handlers are given a `context`.
"""
