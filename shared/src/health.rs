//! Health reports: live, ready and full, in the shapes of core §6.
