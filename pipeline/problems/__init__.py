"""What is searched: space, metrics, data and objective; the paper's image classification is the first problem."""
