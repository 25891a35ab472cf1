"""What flows between the stages: bounded queues, and the ladder of what is spared when a machine cannot keep up."""
