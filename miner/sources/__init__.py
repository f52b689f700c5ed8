"""Where work comes from: the own chain, a Bitcoin node, a pool. One file each."""
