//! Migrations: one folder per service, safe to run from several replicas at once.
