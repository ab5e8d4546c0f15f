//! Real tokens and sessions for tests of pods other than the core pod.
