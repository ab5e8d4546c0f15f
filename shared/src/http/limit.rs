//! Rate limits: shared in Redis, in process when Redis is away (core §1.10).
