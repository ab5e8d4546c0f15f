//! One partition's queue and its patience: which record is next, and when it may be tried again (events §6).
//!
//! No Kafka and no database here, so that the rules can be tested on their own.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A partition is not read any further while this many of its records wait …
const FULL: usize = 128;
/// … until only this many are left.
const ROOMY: usize = 32;
/// When an event that may become applicable is tried again; three tries over about five seconds.
const UNKNOWN_PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];
/// The first pause after a transient failure; doubled each time …
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The record is dealt with.
    Done,
    /// It may become applicable shortly.
    Unknown,
    /// Something is away.
    Transient,
}

/// The records of one partition, strictly one after the other.
#[derive(Debug)]
pub struct Lane<M> {
    queue: VecDeque<M>,
    running: bool,
    paused: bool,
    retry_at: Option<Instant>,
    /// Tries of the record at the head that ended in [`Verdict::Unknown`].
    unknown: usize,
    /// Transient failures in a row.
    transient: u32,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            running: false,
            paused: false,
            retry_at: None,
            unknown: 0,
            transient: 0,
        }
    }
}

impl<M: Clone> Lane<M> {
    /// Queues a record behind the others.
    pub fn push(&mut self, record: M) {
        self.queue.push_back(record);
    }

    /// Whether there is a record to try now.
    pub fn is_ready(&self, now: Instant) -> bool {
        !self.running && !self.queue.is_empty() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// The record to try now, with the number of this try and whether it is the last before a dead letter.
    pub fn start(&mut self, now: Instant) -> Option<(M, Try)> {
        if !self.is_ready(now) {
            return None;
        }
        let head = self.queue.front()?.clone();
        self.running = true;
        self.retry_at = None;
        Some((
            head,
            Try {
                number: self.unknown + 1,
                last: self.unknown >= UNKNOWN_PAUSES.len(),
            },
        ))
    }

    /// Takes note of how the running try ended. `jitter` is between one half and one.
    pub fn finish(&mut self, verdict: Verdict, now: Instant, jitter: f64) {
        self.running = false;
        match verdict {
            Verdict::Done => {
                self.queue.pop_front();
                self.unknown = 0;
                self.transient = 0;
            }
            Verdict::Unknown => {
                let pause = UNKNOWN_PAUSES.get(self.unknown).copied().unwrap_or(LONGEST_PAUSE);
                self.unknown += 1;
                self.retry_at = Some(now + pause);
            }
            Verdict::Transient => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << self.transient.min(10))
                    .min(LONGEST_PAUSE);
                self.transient += 1;
                self.retry_at = Some(now + pause.mul_f64(jitter));
            }
        }
    }

    /// When the head may be tried again, if it waits.
    pub fn retry_at(&self) -> Option<Instant> {
        if self.running || self.queue.is_empty() {
            None
        } else {
            self.retry_at
        }
    }

    /// Whether reading of this partition has to stop (`Some(true)`) or may go on (`Some(false)`).
    pub fn pressure(&mut self) -> Option<bool> {
        let waits = self.retry_at.is_some();
        if !self.paused && (self.queue.len() >= FULL || waits) {
            self.paused = true;
            return Some(true);
        }
        if self.paused && self.queue.len() <= ROOMY && !waits && !self.running {
            self.paused = false;
            return Some(false);
        }
        None
    }
}

/// Which try of a record this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// From one.
    pub number: usize,
    /// Whether an unknown failure now means a dead letter.
    pub last: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_event_gets_three_tries_over_five_seconds() {
        let mut lane = Lane::default();
        lane.push('a');
        let begin = Instant::now();
        let mut now = begin;
        let mut tries = Vec::new();
        loop {
            let (_, this) = lane.start(now).unwrap();
            tries.push((now - begin, this));
            if this.last {
                break;
            }
            lane.finish(Verdict::Unknown, now, 1.0);
            assert!(lane.start(now).is_none());
            now = lane.retry_at().unwrap();
        }
        let at: Vec<_> = tries.iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(at, [0, 2, 5]);
    }

    #[test]
    fn a_transient_failure_keeps_the_record_and_waits_longer_each_time() {
        let mut lane = Lane::default();
        lane.push('a');
        lane.push('b');
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(lane.start(now).unwrap().0, 'a');
            lane.finish(Verdict::Transient, now, 1.0);
            let next = lane.retry_at().unwrap();
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        let (head, this) = lane.start(now).unwrap();
        assert_eq!((head, this.number), ('a', 1));
        lane.finish(Verdict::Done, now, 1.0);
        assert_eq!(lane.start(now).unwrap().0, 'b');
    }

    #[test]
    fn one_record_runs_at_a_time() {
        let mut lane = Lane::default();
        lane.push('a');
        lane.push('b');
        assert!(lane.start(Instant::now()).is_some());
        assert!(lane.start(Instant::now()).is_none());
    }

    #[test]
    fn a_full_lane_is_not_read_until_it_has_room() {
        let mut lane = Lane::default();
        let now = Instant::now();
        for record in 0..FULL {
            assert_eq!(lane.pressure(), None);
            lane.push(record);
        }
        assert_eq!(lane.pressure(), Some(true));
        for left in (0..FULL).rev() {
            lane.start(now).unwrap();
            lane.finish(Verdict::Done, now, 1.0);
            assert_eq!(lane.pressure(), (left == ROOMY).then_some(false), "{left} left");
        }
    }

    #[test]
    fn a_waiting_lane_is_not_read() {
        let mut lane = Lane::default();
        let now = Instant::now();
        lane.push('a');
        lane.start(now).unwrap();
        lane.finish(Verdict::Transient, now, 1.0);
        assert_eq!(lane.pressure(), Some(true));
        let later = lane.retry_at().unwrap();
        lane.start(later).unwrap();
        lane.finish(Verdict::Done, later, 1.0);
        assert_eq!(lane.pressure(), Some(false));
    }
}
