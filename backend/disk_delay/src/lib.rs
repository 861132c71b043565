//! A disk that is slow: what another disk has done is told after a while.
//!
//! Each request waits for `shortest` and up to `spread` more, by a seed, so requests end in another
//! order than they came. For the simulation, and for trying what a slow store does to a guest.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use disk::{Data, Disk};
use request::{Facts, Instant, Lba, Operation, Run, Status};

pub struct DiskDelay<D> {
    inner: D,
    shortest: Duration,
    spread: Duration,
    random: u64,
    /// When each request is due, decided when it is submitted.
    due: BTreeMap<u32, Instant>,
    /// What has been done and is not due, by time and tag.
    held: BTreeMap<(Instant, u32), Status>,
}

impl<D: Disk> DiskDelay<D> {
    pub fn new(inner: D, shortest: Duration, spread: Duration, seed: u64) -> Self {
        Self { inner, shortest, spread, random: seed | 1, due: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// xorshift64*, Vigna 2016.
    fn wait(&mut self) -> Duration {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let number = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        let spread = u64::try_from(self.spread.as_nanos()).unwrap_or(u64::MAX - 1);
        self.shortest.saturating_add(Duration::from_nanos(number % (spread + 1)))
    }
}

impl<D: Disk> Disk for DiskDelay<D> {
    fn facts(&self) -> &Facts {
        self.inner.facts()
    }

    fn submit(&mut self, now: Instant, tag: u32, operation: Operation, data: Data<'_>) {
        let due = now.after(self.wait());
        assert!(self.due.insert(tag, due).is_none(), "tag {tag} is in use");
        self.inner.submit(now, tag, operation, data);
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u32, Status)) {
        let Self { inner, due, held, .. } = self;
        inner.poll(now, &mut |tag, status| {
            let when = due.remove(&tag).expect("the inner disk ends what was submitted");
            held.insert((when, tag), status);
        });
        while let Some((&(when, tag), &status)) = held.first_key_value() {
            if when > now {
                break;
            }
            held.pop_first();
            done(tag, status);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let held = self.held.first_key_value().map(|(&(when, _), _)| when);
        [held, self.inner.next_deadline()].into_iter().flatten().min()
    }

    fn resize(&mut self) -> bool {
        self.inner.resize()
    }

    fn allocation(&mut self, from: Lba) -> Run {
        self.inner.allocation(from)
    }

    fn take_cause(&mut self) -> Option<String> {
        self.inner.take_cause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use conformance::{Subject, check, facts};
    use disk_memory::{DiskMemory, Medium};
    use guest_memory::Memory;

    const SHORTEST: Duration = Duration::from_micros(100);
    const SPREAD: Duration = Duration::from_millis(1);

    fn slow(seed: u64) -> DiskDelay<DiskMemory> {
        DiskDelay::new(DiskMemory::new(Medium::new(facts(512, 16 << 20), seed)), SHORTEST, SPREAD, seed)
    }

    #[test]
    fn conforms() {
        let mut now = Instant::default();
        check(Subject {
            disk: &mut slow(3),
            pump: &mut || {
                now = now.after(Duration::from_micros(50));
                now
            },
            keeps_data: true,
            allocated: None,
            tells_holes: true,
            grow: None,
        });
    }

    #[test]
    fn requests_end_at_their_time_and_in_another_order() {
        let mut disk = slow(3);
        let memory: Arc<Memory> = Memory::empty();
        let begin = Instant::from_nanos(1_000_000_000);
        for tag in 0..20 {
            disk.submit(begin, tag, Operation::Flush, Data { memory: &memory, spans: &[] });
        }
        let mut ends = Vec::new();
        disk.poll(begin, &mut |tag, _| ends.push((begin, tag)));
        assert!(ends.is_empty());
        while let Some(now) = disk.next_deadline() {
            disk.poll(now, &mut |tag, status| {
                assert_eq!(status, Status::Good);
                ends.push((now, tag));
            });
        }
        assert_eq!(ends.len(), 20);
        assert!(ends.iter().all(|&(now, _)| {
            let waited = now.since(begin);
            waited >= SHORTEST && waited <= SHORTEST + SPREAD
        }));
        assert!(!ends.is_sorted_by_key(|&(_, tag)| tag));
    }
}
