//! Live sessions as every pod checks them: Redis, then the owner (core §2.3).
