//! Many VMs at once, each with one NIC and one disk, driven from one thread: what each costs the
//! server when it is attached, when it rests, and when some of them work.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::daemon::{self, Usage};
use super::frame::{self, Shape};
use super::random::Random;
use crate::driver::disk::{Disk, DiskOptions, Operation, Outcome, Request, SECTOR_BYTES};
use crate::driver::error::{Error, Result};
use crate::driver::net::{HEADER_BYTES, Net, NetOptions};

#[derive(Debug, Clone)]
pub struct CrowdOptions {
    pub disk: DiskOptions,
    pub net: NetOptions,
    pub frame_bytes: u32,
    pub pids: Vec<u32>,
}

/// One VM's sockets.
#[derive(Debug, Clone)]
pub struct Sockets {
    pub nic: PathBuf,
    pub disk: PathBuf,
}

struct Vm {
    net: Net,
    disk: Disk,
    random: Random,
    in_flight: u16,
}

pub struct Crowd {
    vms: Vec<Vm>,
    options: CrowdOptions,
}

/// A rate and what it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    pub count: u64,
    pub lost: u64,
    pub errors: u64,
    pub seconds: f64,
    pub server_cpu_ns: u64,
    /// The least and the most that one VM got.
    pub least: u64,
    pub most: u64,
}

/// The load's own MAC address space for a crowd.
const CROWD_PORT: u8 = 3;
const DRAIN: Duration = Duration::from_millis(300);
const STALL: Duration = Duration::from_secs(20);
/// Frames that one VM sends in its turn.
const BURST: u32 = 16;

impl Crowd {
    /// Attaches every VM, one after the other.
    pub fn attach(sockets: &[Sockets], options: CrowdOptions) -> Result<Crowd> {
        // Some twenty descriptors for each VM: sockets, memory, in-flight regions and eventfds.
        host::process::raise_fd_limit();
        let mut vms: Vec<Vm> = Vec::with_capacity(sockets.len());
        for (at, socket) in sockets.iter().enumerate() {
            let place = |error| Error::Unsupported(format!("VM {at} of {}: {error}", sockets.len()));
            let net = Net::open(&socket.nic, &options.net).map_err(place)?;
            let disk = Disk::open(&socket.disk, &options.disk).map_err(place)?;
            vms.push(Vm { net, disk, random: Random::new(at as u64), in_flight: 0 });
        }
        let mut crowd = Crowd { vms, options };
        crowd.lay_templates();
        Ok(crowd)
    }

    fn lay_templates(&mut self) {
        let shape =
            Shape { bytes: self.options.frame_bytes, mss: None, from_port: CROWD_PORT, to_port: CROWD_PORT };
        let template = shape.template();
        let count = self.vms.len();
        for (at, vm) in self.vms.iter().enumerate() {
            for area in vm.net.pairs[0].transmit.areas() {
                area.write_bytes(0, &template);
                area.write_bytes(HEADER_BYTES, &frame::mac(CROWD_PORT, ((at + 1) % count) as u16));
                area.write_bytes(HEADER_BYTES + 6, &frame::mac(CROWD_PORT, at as u16));
            }
        }
    }

    /// What the server uses now.
    pub fn usage(&self) -> Usage {
        daemon::usage(&self.options.pids)
    }

    /// Lets everybody rest, with interrupts on as an idle guest leaves them; returns the server's
    /// CPU time in cores.
    pub fn rest(&mut self, time: Duration) -> Result<f64> {
        for vm in &mut self.vms {
            vm.net.pairs[0].receive.ring.set_interrupts(true)?;
            for queue in &mut vm.disk.queues {
                queue.ring().set_interrupts(true)?;
            }
        }
        // What is still going on from before shall not count.
        std::thread::sleep(Duration::from_millis(500));
        let (before, start) = (self.usage(), Instant::now());
        std::thread::sleep(time);
        let cpu_ns = self.usage().cpu_ns_since(&before);
        Ok(cpu_ns as f64 / start.elapsed().as_nanos() as f64)
    }

    /// Random reads on the first `active` disks, `depth` requests in flight on each.
    pub fn read(&mut self, active: usize, time: Duration) -> Result<Rate> {
        let block = self.options.disk.bytes_max;
        let depth = self.options.disk.depth;
        let vms = &mut self.vms[..active];
        for vm in vms.iter_mut() {
            vm.disk.queues[0].ring().set_interrupts(false)?;
        }
        let before = daemon::usage(&self.options.pids);
        let start = Instant::now();
        for vm in vms.iter_mut() {
            for slot in 0..depth {
                submit_read(vm, slot, block)?;
            }
            vm.disk.queues[0].ring().publish();
        }
        let mut done = vec![0; active];
        let mut rate = Rate::default();
        let mut last = start;
        loop {
            let now = Instant::now();
            let more = now.duration_since(start) < time;
            let mut ended = 0;
            let mut in_flight = 0;
            for (at, vm) in vms.iter_mut().enumerate() {
                let was = ended;
                while let Some(completion) = vm.disk.queues[0].complete()? {
                    ended += 1;
                    vm.in_flight -= 1;
                    rate.errors += (completion.outcome != Outcome::Good || completion.wrong_length) as u64;
                    if more {
                        submit_read(vm, completion.slot, block)?;
                    }
                }
                if ended > was {
                    done[at] += ended - was;
                    vm.disk.queues[0].ring().publish();
                }
                in_flight += vm.in_flight as u64;
            }
            if ended > 0 {
                last = now;
            } else if now.duration_since(last) > STALL {
                return Err(Error::Stalled(format!("{in_flight} reads have not ended in {STALL:?}")));
            }
            if !more && in_flight == 0 {
                break;
            }
        }
        rate.seconds = start.elapsed().as_secs_f64();
        rate.server_cpu_ns = daemon::usage(&self.options.pids).cpu_ns_since(&before);
        rate.count = done.iter().sum();
        rate.least = done.iter().copied().min().unwrap_or(0);
        rate.most = done.iter().copied().max().unwrap_or(0);
        Ok(rate)
    }

    /// Frames from the first `active` NICs, each to the next VM's.
    pub fn send(&mut self, active: usize, time: Duration) -> Result<Rate> {
        let bytes = self.options.frame_bytes;
        let count = self.vms.len();
        if count < 2 {
            return Err(Error::Unsupported("frames need two VMs".into()));
        }
        for vm in &mut self.vms {
            vm.net.pairs[0].receive.ring.set_interrupts(false)?;
            vm.net.pairs[0].transmit.ring.set_interrupts(false)?;
        }
        // One frame from each that takes part, so that the switch knows all of them.
        for at in 0..(active + 1).min(count) {
            send_burst(&mut self.vms[at], 1, bytes)?;
            self.receive_all(0..count)?;
        }
        let settle = Instant::now();
        while settle.elapsed() < DRAIN {
            self.receive_all(0..count)?;
        }
        let before = daemon::usage(&self.options.pids);
        let start = Instant::now();
        let (mut sent, mut received) = (0, 0);
        let mut got = vec![0; active];
        while start.elapsed() < time {
            for (at, got) in got.iter_mut().enumerate() {
                sent += send_burst(&mut self.vms[at], BURST, bytes)?;
                let to = (at + 1) % count;
                let frames = receive(&mut self.vms[to])?;
                *got += frames;
                received += frames;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let server_cpu_ns = daemon::usage(&self.options.pids).cpu_ns_since(&before);
        let in_time = received;
        let settle = Instant::now();
        while settle.elapsed() < DRAIN {
            received += self.receive_all(0..count)?;
        }
        Ok(Rate {
            count: in_time,
            lost: sent.saturating_sub(received),
            errors: 0,
            seconds,
            server_cpu_ns,
            least: got.iter().copied().min().unwrap_or(0),
            most: got.iter().copied().max().unwrap_or(0),
        })
    }

    fn receive_all(&mut self, vms: std::ops::Range<usize>) -> Result<u64> {
        let mut frames = 0;
        for vm in &mut self.vms[vms] {
            frames += receive(vm)?;
            vm.net.pairs[0].transmit.reclaim()?;
        }
        Ok(frames)
    }

    /// Unplugs everybody, in order.
    pub fn detach(mut self) -> Result<()> {
        for vm in &mut self.vms {
            vm.net.stop()?;
            vm.disk.stop()?;
        }
        Ok(())
    }
}

fn submit_read(vm: &mut Vm, slot: u16, bytes: u32) -> Result<()> {
    let blocks = vm.disk.facts.bytes / bytes as u64;
    let block = vm.random.below(blocks);
    let sector = block * (bytes as u64 / SECTOR_BYTES);
    if !vm.disk.queues[0].submit(slot, Request { operation: Operation::Read, sector, bytes }) {
        return Err(Error::Unsupported("the ring has no room: it is too small for this depth".into()));
    }
    vm.in_flight += 1;
    Ok(())
}

fn send_burst(vm: &mut Vm, limit: u32, bytes: u32) -> Result<u64> {
    let transmit = &mut vm.net.pairs[0].transmit;
    transmit.reclaim()?;
    let mut sent = 0;
    while sent < limit as u64 {
        let Some(slot) = transmit.take() else { break };
        if !transmit.send(slot, bytes) {
            break;
        }
        sent += 1;
    }
    if sent > 0 {
        transmit.ring.publish();
    }
    Ok(sent)
}

fn receive(vm: &mut Vm) -> Result<u64> {
    Ok(vm.net.pairs[0].receive.receive(256, |_| {})? as u64)
}
