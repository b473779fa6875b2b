"""The oplog in the store: shipped continuously by one member, kept as a chain, replayed up to any moment."""
