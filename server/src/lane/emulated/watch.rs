//! Who has to be looked at although nobody will say so.
//!
//! A driver whose doorbells are stores to memory cannot wake a lane that sleeps, and a client that has
//! been given such pages cannot be asked to take them back. Others were told not to ring, as they had
//! rung much. So as long as such a slot is not looked at every turn, it is looked at from time to time:
//! at first every [`FIRST`], then the more seldom the longer it has been quiet, up to [`LONGEST`]. What
//! came while nobody looked has waited for a sixteenth of the time that the slot had been quiet, or
//! [`FIRST`], or [`LONGEST`], and no longer.
//!
//! One timer does it for all slots of a lane: looks are at multiples of their period, so that those of
//! slots that have been quiet for long are at the same time.

use std::time::Duration;

use request::Instant;

/// About what a wake-up costs, many times over.
pub const FIRST: Duration = Duration::from_micros(25);
/// A multiple of [`FIRST`], by a power of two. What it costs at rest, and how long a driver may have to
/// wait, is in docs/decisions/0008.
pub const LONGEST: Duration = FIRST.saturating_mul(128);
/// Of the time that a slot has been quiet.
const SHARE: u64 = 16;

#[derive(Clone, Copy, Debug)]
struct Watched {
    slot: u32,
    since: u64,
    due: u64,
}

#[derive(Debug, Default)]
pub struct Watch {
    watched: Vec<Watched>,
    next: Option<u64>,
}

/// When to look next at a slot that has been quiet since then.
fn due_behind(now: u64, since: u64) -> u64 {
    let (first, longest) = (FIRST.as_nanos() as u64, LONGEST.as_nanos() as u64);
    let mut period = first;
    while period < longest && period * 2 * SHARE <= now.saturating_sub(since) {
        period *= 2;
    }
    (now / period + 1).saturating_mul(period)
}

impl Watch {
    /// The next look.
    pub fn next(&self) -> Option<Instant> {
        self.next.map(Instant::from_nanos)
    }

    /// Something came, or may come soon: it is watched closely from now on.
    pub fn closely(&mut self, slot: u32, now: Instant) {
        let due = due_behind(now.nanos(), now.nanos());
        let new = Watched { slot, since: now.nanos(), due };
        match self.watched.iter_mut().find(|watched| watched.slot == slot) {
            Some(watched) => *watched = new,
            None => self.watched.push(new),
        }
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    pub fn remove(&mut self, slot: u32) {
        self.watched.retain(|watched| watched.slot != slot);
        if self.watched.is_empty() {
            self.next = None;
        }
    }

    /// Slots that are to be looked at now. Whoever finds something says [`Watch::closely`], or has
    /// the slot looked at every turn and removes it.
    pub fn take_due(&mut self, now: Instant, into: &mut Vec<u32>) {
        let mut next = None;
        for watched in &mut self.watched {
            if watched.due <= now.nanos() {
                into.push(watched.slot);
                watched.due = due_behind(now.nanos(), watched.since);
            }
            next = Some(next.map_or(watched.due, |next: u64| next.min(watched.due)));
        }
        self.next = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    /// Runs the watch's timer for so long; gives the times of all looks, in microseconds.
    fn looks(watch: &mut Watch, from: u64, to: u64) -> Vec<(u64, u32)> {
        let mut all = Vec::new();
        let mut now = at(from);
        while let Some(next) = watch.next().filter(|next| *next <= at(to)) {
            assert!(next > now, "a timer that is over already");
            now = next;
            let mut due = Vec::new();
            watch.take_due(now, &mut due);
            all.extend(due.into_iter().map(|slot| (now.nanos() / 1000, slot)));
        }
        all
    }

    #[test]
    fn looks_become_fewer_and_never_end() {
        let mut watch = Watch::default();
        watch.closely(7, at(10_010));
        let times: Vec<u64> = looks(&mut watch, 10_010, 150_000).into_iter().map(|look| look.0).collect();
        assert_eq!(times[..3], [10_025, 10_050, 10_075]);
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap <= 3_200));
        assert!(gaps[..28].iter().all(|gap| *gap == 25));
        assert_eq!(gaps[gaps.len() - 1], 3_200);
        // The way to the longest costs no more than a few dozen looks.
        assert!(gaps.iter().take_while(|gap| **gap < 3_200).count() <= 160);
        watch.closely(7, at(150_000));
        assert_eq!(looks(&mut watch, 150_000, 150_050), [(150_025, 7), (150_050, 7)]);
        watch.remove(7);
        assert_eq!(watch.next(), None);
    }

    #[test]
    fn what_has_waited_is_found_in_a_sixteenth_of_the_time() {
        for quiet in (1..160_000).step_by(37) {
            let mut watch = Watch::default();
            watch.closely(1, at(5));
            looks(&mut watch, 5, 5 + quiet);
            let waits = watch.next().unwrap().nanos() / 1000 - (5 + quiet);
            assert!(waits <= 3_200.min(25.max(quiet / 16)), "{waits} after {quiet}");
        }
    }

    #[test]
    fn slots_that_are_quiet_share_a_timer() {
        let mut watch = Watch::default();
        for slot in 0..256 {
            watch.closely(slot, at(1 + u64::from(slot) * 13));
        }
        looks(&mut watch, 0, 150_000);
        let late = looks(&mut watch, 150_000, 250_000);
        let mut times: Vec<u64> = late.iter().map(|look| look.0).collect();
        times.dedup();
        assert_eq!(late.len(), times.len() * 256);
        assert!(times.len() <= 32);
        watch.closely(3, at(250_000));
        assert_eq!(watch.watched.len(), 256);
    }
}
