"""Each application of the corpus on the fleet: deployed, used, and under load rolled out, killed and scaled in."""

from bench.corpus.run import measure

__all__ = ["measure"]
