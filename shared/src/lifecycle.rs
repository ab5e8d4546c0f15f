//! Start, drain, stop: every task tracked, two signals, a deadline (operations §6.5).
