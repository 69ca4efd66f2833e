"""Actions of operators on queues and jobs, with an audit, for the command line and Flower's pages alike."""
