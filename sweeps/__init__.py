"""Many runs by one command: a grid of options, jobs that are done once, engines that do them, and their tables."""
