"""The verbs: what a command does, without the terminal. `compress` is the main one."""
