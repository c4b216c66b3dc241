"""The searched network, its regularisers, the baselines, and what a model costs."""
