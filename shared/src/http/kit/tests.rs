//! The kit through `oneshot`.
