//! What every pod binary does the same way: command line, listeners, start and stop.
