"""What operators do, for the command line and Flower's pages alike: queues of the broker, and actions with an audit."""
