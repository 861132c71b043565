//! Frames between two NICs, both driven from one thread, as two guests' kernels would:
//! sent in bursts, received in batches, counted at both ends.

use std::time::{Duration, Instant};

use super::daemon;
use super::frame::{self, Shape};
use super::latency::Latencies;
use crate::driver::error::{Error, Result};
use crate::driver::net::Net;
use crate::driver::nic::Nic;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    OneWay,
    BothWays,
    /// The second port returns each frame; the first one measures the round trip.
    Echo,
}

#[derive(Debug, Clone)]
pub struct NetLoad {
    pub direction: Direction,
    /// Bytes of a frame without FCS.
    pub frame_bytes: u32,
    pub mss: Option<u16>,
    pub flows: u16,
    /// Destination addresses behind the receiving port, in rotation.
    pub macs: u16,
    /// Frames a second from each sender; 0: as many as go.
    pub rate: f64,
    /// Frames of one sender that have not arrived yet; 0: no bound but the ring.
    pub in_flight_max: u64,
    pub burst: u16,
    /// Put a time into each frame. Echo does in any case.
    pub latency: bool,
    /// Check each frame's length, order and bytes.
    pub verify: bool,
    /// Sleep when there is nothing to do, until an interrupt comes.
    pub event: bool,
    pub warmup: Duration,
    pub measured: Duration,
    /// Leave the rings alone for so long after a turn that moved little: a driver that looks all
    /// the time takes the rings' cache lines away from the device.
    pub relax: Duration,
    /// The server's processes.
    pub pids: Vec<u32>,
}

/// What one port saw in the measured time.
#[derive(Debug, Clone, Copy, Default)]
pub struct PortFigures {
    pub sent: u64,
    pub received: u64,
    pub received_bytes: u64,
    pub foreign: u64,
    pub wrong_length: u64,
    pub wrong_bytes: u64,
    pub reordered: u64,
}

#[derive(Default)]
pub struct NetFigures {
    pub seconds: f64,
    pub ports: [PortFigures; 2],
    /// Over the whole run, after everything under way had time to arrive.
    pub lost: u64,
    pub sent_in_all: u64,
    pub latencies: Latencies,
    pub server_cpu_ns: u64,
    /// Turns of the load's loop, and those in which there was nothing to do. A load that is never
    /// idle may itself be what limits the rate.
    pub turns: u64,
    pub idle_turns: u64,
    /// Messages that the drivers of emulated NICs sent to the server.
    pub messages: u64,
}

struct Port<'a> {
    nic: Nic<'a>,
    shape: Shape,
    next_pair: usize,
    next_flow: u16,
    next_mac: u16,
    next_sequence: u64,
    /// The next sequence number expected from the other side.
    expected: u64,
    counts: PortFigures,
    /// Echo: stamps that wait for a free transmit slot.
    returns: Vec<(u64, u64)>,
    sends: bool,
}

/// Runs the load between two virtio-net ports.
pub fn run(ports: [&mut Net; 2], load: &NetLoad) -> Result<NetFigures> {
    run_on(ports.map(Nic::Virtio), load)
}

/// Runs the load between two NICs of whatever kind.
pub fn run_on<'a>(nics: [Nic<'a>; 2], load: &'a NetLoad) -> Result<NetFigures> {
    let minimum = Shape::bytes_min(load.mss);
    if load.frame_bytes < minimum {
        return Err(Error::Unsupported(format!("a frame has {minimum} bytes at least, without FCS")));
    }
    if load.event && nics.iter().any(|nic| matches!(nic, Nic::Emulated(_))) {
        return Err(Error::Unsupported("drivers of emulated NICs poll here".into()));
    }
    let [a, b] = nics;
    let mut runner = Runner {
        ports: [
            Port::new(a, load, 1, 2, true),
            Port::new(b, load, 2, 1, load.direction == Direction::BothWays),
        ],
        load,
        stamp_at: frame::stamp_at(load.mss.is_some()),
        epoch: Instant::now(),
        latencies: Latencies::default(),
        measuring: false,
        scratch: Vec::new(),
    };
    runner.introduce()?;
    runner.go()
}

impl<'a> Port<'a> {
    fn new(nic: Nic<'a>, load: &NetLoad, port: u8, other: u8, sends: bool) -> Port<'a> {
        let shape = Shape { bytes: load.frame_bytes, mss: load.mss, from_port: port, to_port: other };
        let template = shape.template();
        for pair in 0..nic.pairs() {
            for area in nic.areas(pair) {
                area.write_bytes(0, &template);
                shape.header().write(area);
            }
        }
        Port {
            nic,
            shape,
            next_pair: 0,
            next_flow: 0,
            next_mac: 0,
            next_sequence: 0,
            expected: 0,
            counts: PortFigures::default(),
            returns: Vec::with_capacity(1024),
            sends,
        }
    }

    /// Sends up to `limit` frames on the next pair; returns how many.
    #[inline]
    fn send(&mut self, limit: u64, load: &NetLoad, stamp_at: usize, time: u64) -> Result<u64> {
        self.next_pair = (self.next_pair + 1) % self.nic.pairs();
        let (nic, pair) = (&mut self.nic, self.next_pair);
        nic.reclaim(pair)?;
        let mut sent = 0;
        while sent < limit {
            let Some(slot) = nic.take(pair) else { break };
            let area = &nic.areas(pair)[slot as usize];
            frame::set_stamp(area, stamp_at, self.next_sequence, time);
            if load.flows > 1 {
                frame::set_flow(area, self.next_flow);
                self.next_flow = if self.next_flow + 1 == load.flows { 0 } else { self.next_flow + 1 };
            }
            if load.macs > 1 {
                frame::set_destination(area, self.next_mac);
                self.next_mac = if self.next_mac + 1 == load.macs { 0 } else { self.next_mac + 1 };
            }
            if !nic.send(pair, slot, self.shape.bytes)? {
                break;
            }
            self.next_sequence += 1;
            sent += 1;
        }
        if sent > 0 {
            nic.flush(pair)?;
        }
        self.counts.sent += sent;
        Ok(sent)
    }

    /// Sends back what is to be returned, as far as there is room.
    fn send_returns(&mut self, stamp_at: usize) -> Result<u64> {
        let nic = &mut self.nic;
        nic.reclaim(0)?;
        let mut sent = 0;
        while let Some((sequence, time)) = self.returns.pop() {
            let Some(slot) = nic.take(0) else {
                self.returns.push((sequence, time));
                break;
            };
            frame::set_stamp(&nic.areas(0)[slot as usize], stamp_at, sequence, time);
            nic.send(0, slot, self.shape.bytes)?;
            sent += 1;
        }
        nic.flush(0)?;
        self.counts.sent += sent;
        Ok(sent)
    }

    fn set_interrupts(&mut self, wanted: bool) -> Result<()> {
        let Nic::Virtio(net) = &mut self.nic else { return Ok(()) };
        for pair in net.pairs.iter_mut() {
            pair.receive.ring.set_interrupts(wanted)?;
            // A sender takes its buffers back when it sends again: no interrupt is worth having.
            pair.transmit.ring.set_interrupts(false)?;
        }
        Ok(())
    }
}

struct Runner<'a> {
    ports: [Port<'a>; 2],
    load: &'a NetLoad,
    stamp_at: usize,
    epoch: Instant,
    latencies: Latencies,
    measuring: bool,
    scratch: Vec<u8>,
}

/// Frames taken from one queue in one turn.
const RECEIVE_BATCH: u32 = 64;
/// How long frames under way get to arrive after the last one was sent.
const DRAIN: Duration = Duration::from_millis(200);
/// How long the first frames get on a busy machine: one that came later would count as out of order.
const INTRODUCE_MAX: Duration = Duration::from_secs(2);
/// The same as `DRAIN` where no ring can have been too full for them: on a busy machine it takes longer.
const DRAIN_ALL: Duration = Duration::from_secs(10);
/// An echo that has not come back by then counts as lost, and another is sent.
const ECHO_LOST_AFTER: Duration = Duration::from_secs(1);

impl Runner<'_> {
    fn nanos(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Sends one frame from each address, so that a switch has learned where everybody is.
    fn introduce(&mut self) -> Result<()> {
        for port in &mut self.ports {
            port.set_interrupts(false)?;
        }
        let source_at = crate::driver::net::HEADER_BYTES + 6;
        for from in 0..2 {
            for index in 0..self.load.macs.max(1) {
                let start = Instant::now();
                loop {
                    let port = &mut self.ports[from];
                    port.nic.reclaim(0)?;
                    let Some(slot) = port.nic.take(0) else {
                        if start.elapsed() > Duration::from_secs(5) {
                            return Err(Error::Stalled("the device does not take frames".into()));
                        }
                        continue;
                    };
                    let source = frame::mac(port.shape.from_port, index);
                    port.nic.areas(0)[slot as usize].write_bytes(source_at, &source);
                    port.nic.send(0, slot, port.shape.bytes)?;
                    port.nic.flush(0)?;
                    break;
                }
                self.receive(0)?;
                self.receive(1)?;
            }
        }
        let (start, each) = (Instant::now(), u64::from(self.load.macs.max(1)));
        let arrived = |port: &Port<'_>| port.counts.received >= each;
        while start.elapsed() < DRAIN || (start.elapsed() < INTRODUCE_MAX && !self.ports.iter().all(arrived))
        {
            for at in 0..2 {
                self.receive(at)?;
                self.ports[at].nic.reclaim(0)?;
            }
        }
        // Each slot that introduced an address gets its own source address back.
        for port in &mut self.ports {
            let source = frame::mac(port.shape.from_port, 0);
            for pair in 0..port.nic.pairs() {
                for area in port.nic.areas(pair) {
                    area.write_bytes(source_at, &source);
                }
            }
            (port.counts, port.expected) = (PortFigures::default(), 0);
            port.returns.clear();
        }
        Ok(())
    }

    fn receive(&mut self, at: usize) -> Result<u64> {
        let load = self.load;
        let (stamp_at, measuring) = (self.stamp_at, self.measuring);
        let echo = load.direction == Direction::Echo;
        let timed = load.latency || echo;
        let looked_at = timed || load.verify;
        let now = if timed { self.nanos() } else { 0 };
        let port = &mut self.ports[at];
        // Queues overtake each other.
        let many_queues = port.nic.pairs() > 1;
        let (counts, expected, returns) = (&mut port.counts, &mut port.expected, &mut port.returns);
        let (scratch, latencies) = (&mut self.scratch, &mut self.latencies);
        let mut frames = 0;
        for pair in 0..port.nic.pairs() {
            frames += port.nic.receive(pair, RECEIVE_BATCH, |received| {
                counts.received += 1;
                counts.received_bytes += received.bytes as u64;
                if !looked_at {
                    return;
                }
                let Some((sequence, time)) = frame::stamp(received.first(), stamp_at) else {
                    counts.foreign += 1;
                    return;
                };
                if load.verify {
                    if received.bytes != load.frame_bytes {
                        counts.wrong_length += 1;
                    }
                    received.copy_into(scratch);
                    if !frame::payload_is_right(scratch, stamp_at) {
                        counts.wrong_bytes += 1;
                    }
                    if sequence < *expected && !many_queues {
                        counts.reordered += 1;
                    }
                    *expected = sequence + 1;
                }
                if echo && at == 1 {
                    returns.push((sequence, time));
                } else if timed && measuring {
                    latencies.record(Duration::from_nanos(now.saturating_sub(time)));
                }
            })? as u64;
        }
        Ok(frames)
    }

    fn go(&mut self) -> Result<NetFigures> {
        for port in &mut self.ports {
            port.set_interrupts(self.load.event)?;
        }
        let start = Instant::now();
        let begin = start + self.load.warmup;
        let end = begin + self.load.measured;
        let mut figures = NetFigures::default();
        let mut before = [PortFigures::default(); 2];
        let mut messages = 0;
        let mut begun = start;
        let mut cpu = daemon::Usage::default();
        let mut last_moved = start;
        let mut turn = 0u32;
        let mut now = start;
        loop {
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(16) || self.load.rate > 0.0 || self.load.latency || self.load.event {
                now = Instant::now();
                if !self.measuring && now >= begin {
                    self.measuring = true;
                    cpu = daemon::usage(&self.load.pids);
                    before = [self.ports[0].counts, self.ports[1].counts];
                    messages = self.messages();
                    now = Instant::now();
                    begun = now;
                }
                if now >= end {
                    break;
                }
            }
            let elapsed = now.duration_since(start).as_secs_f64();
            let moved = self.turn(elapsed, now.duration_since(last_moved) > ECHO_LOST_AFTER)?;
            if moved > 0 {
                last_moved = now;
            }
            if self.measuring {
                figures.turns += 1;
                figures.idle_turns += (moved == 0) as u64;
            }
            if moved == 0 && self.load.event {
                self.sleep()?;
            } else if moved < self.load.burst as u64 && !self.load.relax.is_zero() {
                let pause = Instant::now();
                while pause.elapsed() < self.load.relax {
                    std::hint::spin_loop();
                }
            }
        }
        figures.seconds = begun.elapsed().as_secs_f64();
        figures.server_cpu_ns = daemon::usage(&self.load.pids).cpu_ns_since(&cpu);
        for (at, port) in figures.ports.iter_mut().enumerate() {
            *port = difference(self.ports[at].counts, before[at]);
        }
        figures.messages = self.messages() - messages;
        self.measuring = false;
        self.drain()?;
        let (first, second) = (self.ports[0].counts, self.ports[1].counts);
        figures.sent_in_all = first.sent + second.sent;
        figures.lost = figures.sent_in_all.saturating_sub(first.received + second.received);
        figures.latencies = std::mem::take(&mut self.latencies);
        Ok(figures)
    }

    fn messages(&self) -> u64 {
        self.ports.iter().map(|port| port.nic.messages()).sum()
    }

    /// One round over both ports; returns the number of frames moved.
    #[inline]
    fn turn(&mut self, elapsed: f64, overdue: bool) -> Result<u64> {
        let mut moved = 0;
        for at in 0..2 {
            if self.ports[at].sends {
                let mut limit = self.load.burst as u64;
                if self.load.rate > 0.0 {
                    // Frames due since the start, less those sent; at most a burst is made up for.
                    let due = elapsed * self.load.rate - self.ports[at].next_sequence as f64;
                    limit = limit.min(due.max(0.0) as u64);
                }
                if self.load.in_flight_max > 0 {
                    let other = if self.load.direction == Direction::Echo { at } else { 1 - at };
                    let under_way =
                        self.ports[at].counts.sent.saturating_sub(self.ports[other].counts.received);
                    let room = self.load.in_flight_max.saturating_sub(under_way);
                    limit = limit.min(if overdue { room.max(1) } else { room });
                }
                if limit > 0 {
                    let timed = self.load.latency || self.load.direction == Direction::Echo;
                    let time = if timed { self.nanos() } else { 0 };
                    moved += self.ports[at].send(limit, self.load, self.stamp_at, time)?;
                }
            }
        }
        for at in 0..2 {
            moved += self.receive(at)?;
        }
        if self.load.direction == Direction::Echo && !self.ports[1].returns.is_empty() {
            moved += self.ports[1].send_returns(self.stamp_at)?;
        }
        Ok(moved)
    }

    /// Sleeps until a frame may have come, or a frame is due to be sent.
    fn sleep(&mut self) -> Result<()> {
        use std::os::fd::AsFd;
        let mut pending = false;
        let mut rings = Vec::new();
        for port in &mut self.ports {
            let Nic::Virtio(net) = &mut port.nic else { continue };
            for pair in net.pairs.iter_mut() {
                pending |= pair.receive.ring.set_interrupts(true)?;
                rings.push(&pair.receive.ring);
            }
        }
        if pending {
            return Ok(());
        }
        let fds: Vec<_> = rings.iter().map(|ring| ring.call.as_fd()).collect();
        let timeout = if self.load.rate > 0.0 {
            Duration::from_secs_f64(1.0 / self.load.rate).min(Duration::from_millis(10))
        } else {
            Duration::from_millis(10)
        };
        host::poll::readable(&fds, timeout)
            .map_err(crate::driver::error::doing("waiting for a network queue"))?;
        rings.iter().for_each(|ring| {
            ring.call.clear();
        });
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let start = Instant::now();
        let bounded = self.load.in_flight_max > 0;
        while start.elapsed() < if bounded { DRAIN_ALL } else { DRAIN } {
            let [a, b] = [self.ports[0].counts, self.ports[1].counts];
            if bounded && a.sent + b.sent == a.received + b.received && start.elapsed() >= DRAIN {
                break;
            }
            for at in 0..2 {
                self.receive(at)?;
                for pair in 0..self.ports[at].nic.pairs() {
                    self.ports[at].nic.reclaim(pair)?;
                }
            }
            if self.load.direction == Direction::Echo {
                self.ports[1].send_returns(self.stamp_at)?;
            }
        }
        Ok(())
    }
}

fn difference(now: PortFigures, before: PortFigures) -> PortFigures {
    PortFigures {
        sent: now.sent - before.sent,
        received: now.received - before.received,
        received_bytes: now.received_bytes - before.received_bytes,
        foreign: now.foreign - before.foreign,
        wrong_length: now.wrong_length - before.wrong_length,
        wrong_bytes: now.wrong_bytes - before.wrong_bytes,
        reordered: now.reordered - before.reordered,
    }
}
