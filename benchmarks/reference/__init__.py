"""The authors' way of training (arberzela/EfficientNAS, 2018), rebuilt to be measured against; nothing else uses it.

PIL transforms in a DataLoader, every branch computed twice per forward pass, contiguous layout, metrics read from the
device at every step. Where the published code cannot run (undefined names, PyTorch 0.3) the obvious is done.
"""
