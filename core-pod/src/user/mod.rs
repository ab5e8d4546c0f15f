//! The user service: profile and notifications (core §5).
