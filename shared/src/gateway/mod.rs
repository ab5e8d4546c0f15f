//! The gateway: a streaming reverse proxy over the services, in process or remote (core §3).
