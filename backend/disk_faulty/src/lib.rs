//! A disk that fails now and then, by a seed: every way in which a backend may end a request.
//!
//! A request that is to fail never reaches the disk behind, except that of a failing write each half
//! is done as often as not: what a failed write leaves behind is undefined, and a guest that counts
//! on the old bytes is wrong. What a power cut takes is the affair of `disk_memory`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use disk::{Data, Disk};
use request::{Blocks, Facts, Instant, Lba, Operation, Run, Span, Status};

/// How often what happens, each in parts of 65,536 of the requests that it can happen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Reads end with `MediumRead`.
    pub medium_read: u16,
    /// Writes and flushes end with `MediumWrite`.
    pub medium_write: u16,
    /// Writes end with `NoSpace`.
    pub no_space: u16,
    /// Anything ends with `NotReady`.
    pub not_ready: u16,
    /// Anything ends with `Aborted`.
    pub aborted: u16,
}

pub struct DiskFaulty<D> {
    inner: D,
    rates: Rates,
    random: u64,
    /// End in the next poll.
    failed: Vec<(u32, Status)>,
    /// Half a write that the inner disk does: it fails when that is done.
    halves: BTreeMap<u32, Status>,
    cause: Option<String>,
}

impl<D: Disk> DiskFaulty<D> {
    pub fn new(inner: D, rates: Rates, seed: u64) -> Self {
        Self { inner, rates, random: seed | 1, failed: Vec::new(), halves: BTreeMap::new(), cause: None }
    }

    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    pub fn inner(&mut self) -> &mut D {
        &mut self.inner
    }

    /// xorshift64*, Vigna 2016.
    fn draw(&mut self) -> u16 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 48) as u16
    }

    fn fault(&mut self, operation: Operation) -> Option<Status> {
        let rates = self.rates;
        let own: &[(u16, Status)] = match operation {
            Operation::Read(_) => &[(rates.medium_read, Status::MediumRead)],
            Operation::Flush => &[(rates.medium_write, Status::MediumWrite)],
            _ => &[(rates.medium_write, Status::MediumWrite), (rates.no_space, Status::NoSpace)],
        };
        let any = [(rates.not_ready, Status::NotReady), (rates.aborted, Status::Aborted)];
        let mut fault = None;
        for &(rate, status) in own.iter().chain(&any) {
            // Each is drawn, so that one rate does not change what another one's seed decides.
            if self.draw() < rate {
                fault = fault.or(Some(status));
            }
        }
        fault
    }

    /// The first half of a write's blocks, with its spans; `None` if it has less than two.
    fn half(&self, operation: Operation, spans: &[Span]) -> Option<(Operation, Vec<Span>)> {
        let Operation::Write { extent, fua } = operation else { return None };
        let count = Blocks(extent.count().0 / 2);
        if count.0 == 0 {
            return None;
        }
        let extent = self.inner.facts().extent(extent.first(), count)?;
        let (mut left, mut half) = (extent.len_bytes(), Vec::new());
        for &span in spans {
            let len = u64::from(span.len).min(left);
            // At most the span's own length.
            half.push(Span { len: len as u32, ..span });
            left -= len;
            if left == 0 {
                break;
            }
        }
        Some((Operation::Write { extent, fua }, half))
    }
}

impl<D: Disk> Disk for DiskFaulty<D> {
    fn facts(&self) -> &Facts {
        self.inner.facts()
    }

    fn submit(&mut self, now: Instant, tag: u32, operation: Operation, data: Data<'_>) {
        let Some(status) = self.fault(operation) else {
            return self.inner.submit(now, tag, operation, data);
        };
        if self.cause.is_none() {
            self.cause = Some(format!("injected {}: {operation:?}", status.name()));
        }
        if self.draw() & 1 == 0
            && let Some((half, spans)) = self.half(operation, data.spans)
        {
            self.halves.insert(tag, status);
            return self.inner.submit(now, tag, half, Data { memory: data.memory, spans: &spans });
        }
        self.failed.push((tag, status));
    }

    fn poll(&mut self, now: Instant, done: &mut dyn FnMut(u32, Status)) {
        for (tag, status) in self.failed.drain(..) {
            done(tag, status);
        }
        let halves = &mut self.halves;
        self.inner.poll(now, &mut |tag, status| done(tag, halves.remove(&tag).unwrap_or(status)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    fn resize(&mut self) -> bool {
        self.inner.resize()
    }

    fn allocation(&mut self, from: Lba) -> Run {
        self.inner.allocation(from)
    }

    fn take_cause(&mut self) -> Option<String> {
        self.cause.take().or_else(|| self.inner.take_cause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conformance::{Subject, check, facts};
    use disk_memory::{DiskMemory, Medium};
    use guest_memory::Memory;

    fn disk(rates: Rates) -> (Medium, DiskFaulty<DiskMemory>) {
        let medium = Medium::new(facts(512, 16 << 20), 5);
        (medium.clone(), DiskFaulty::new(DiskMemory::new(medium), rates, 5))
    }

    #[test]
    fn conforms_while_nothing_fails() {
        let (_, mut disk) = disk(Rates::default());
        check(Subject {
            disk: &mut disk,
            pump: &mut Instant::default,
            keeps_data: true,
            allocated: None,
            tells_holes: true,
            grow: None,
        });
    }

    #[test]
    fn every_fault_is_reached_and_every_request_ends_once() {
        let rate = 6000;
        let rates =
            Rates { medium_read: rate, medium_write: rate, no_space: rate, not_ready: rate, aborted: rate };
        let (medium, mut disk) = disk(rates);
        let memory = Memory::anonymous(4096);
        memory.write(Span { offset: 0, len: 1024, region: 0 }, &[1; 1024]).unwrap();
        let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
        let mut torn = 0;
        for tag in 0..4000u32 {
            let extent = disk.facts().extent(Lba(u64::from(tag) * 2), Blocks(2)).unwrap();
            let (operation, len) = match tag % 3 {
                0 => (Operation::Read(extent), 1024),
                1 => (Operation::Write { extent, fua: false }, 1024),
                _ => (Operation::Flush, 0),
            };
            let spans = [Span { offset: if tag % 3 == 0 { 2048 } else { 0 }, len, region: 0 }];
            disk.submit(Instant::default(), tag, operation, Data { memory: &memory, spans: &spans });
            let mut count = 0;
            disk.poll(Instant::default(), &mut |ended, status| {
                assert_eq!(ended, tag);
                count += 1;
                *ends.entry(status.name()).or_default() += 1;
                if matches!(operation, Operation::Write { .. }) {
                    let at = extent.offset_bytes() as usize;
                    let bytes = medium.contents();
                    let (first, second) = (bytes[at], bytes[at + 512]);
                    match status {
                        Status::Good => assert_eq!((first, second), (1, 1)),
                        _ => assert_eq!(second, 0),
                    }
                    torn += u32::from(status != Status::Good && first == 1);
                }
            });
            assert_eq!(count, 1);
        }
        let names = ["good", "medium_read_error", "medium_write_error", "no_space", "not_ready", "aborted"];
        assert!(names.iter().all(|name| ends.get(name).is_some_and(|&count| count > 10)), "{ends:?}");
        assert_eq!(ends.values().sum::<u32>(), 4000);
        assert!(torn > 10);
        assert!(disk.take_cause().unwrap().starts_with("injected "));
    }
}
