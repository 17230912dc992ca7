"""Training of gates and masks on channel groups, with the network's weights or without."""
