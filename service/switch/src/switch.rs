use crate::port::{Bucket, Counters, Port, PortConfig, PortId, Reason, Recent, Size};
use crate::table::{Entry, Table, key};
use crate::vlan::{Form, Vid};
use alloc::vec::Vec;
use core::time::Duration;
use request::{Instant, Mac, Rewrite};

/// Slots of the table that one call of `age` looks at.
const SWEEP_SLOTS: usize = 1024;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// 8100h as it lies in a little-endian load of the header.
const TPID_LE: u64 = 0x0081;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses that may be learned.
    pub entries_max: u32,
    pub ports_max: u16,
    /// How long an address is believed after it was last heard.
    pub ageing: Duration,
    /// A number that guests do not know; where addresses lie in the table depends on it.
    pub seed: u64,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    To(PortId, Rewrite),
    /// To every port that [`Switch::next_target`] names.
    Flood(Flood),
    /// Counted already.
    Drop(Reason),
}

/// A walk over the ports of a VLAN, without the one that sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    from: PortId,
    vid: Vid,
    form: Form,
    largest: u32,
    next: u16,
}

/// Why a port was not made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `Config::ports_max` ports exist.
    Full,
    /// Another port owns the address in that VLAN.
    MacTaken(PortId),
    /// No such port.
    UnknownPort,
}

/// One line of the forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub vid: Vid,
    pub mac: Mac,
    pub port: PortId,
    /// Since it was last heard; `None`: configured, does not age.
    pub age: Option<Duration>,
}

pub struct Switch {
    config: Config,
    ageing_seconds: u32,
    ports: Vec<Port>,
    table: Table,
    learned: u32,
    /// Grows whenever an entry or a port changes, so that remembered verdicts expire.
    changes: u64,
    sweep_next: usize,
    sweep_at: Option<Instant>,
    /// Ends of frames whose port was removed meanwhile.
    gone: Counters,
}

impl Switch {
    /// Everything that frames need is allocated here and in `add_port`.
    pub fn new(config: Config) -> Switch {
        let entries = config.entries_max as usize + usize::from(config.ports_max);
        let seconds = config.ageing.as_secs().clamp(1, u64::from(u32::MAX / 2));
        Switch {
            config,
            ageing_seconds: seconds as u32,
            ports: Vec::with_capacity(usize::from(config.ports_max)),
            table: Table::new(entries, config.seed),
            learned: 0,
            changes: 1,
            sweep_next: 0,
            sweep_at: None,
            gone: Counters::default(),
        }
    }

    pub fn add_port(&mut self, config: PortConfig) -> Result<PortId, Refused> {
        let own = Port::own_bits(&config);
        let free = self.ports.iter().position(|port| !port.present);
        let index = free.unwrap_or(self.ports.len());
        if index >= usize::from(self.config.ports_max) {
            return Err(Refused::Full);
        }
        // Below a 16-bit limit.
        let index = index as u16;
        self.claim(index, own, &config)?;
        let generation = match self.ports.get(usize::from(index)) {
            Some(old) => old.generation.wrapping_add(1),
            None => 0,
        };
        let port = Port {
            generation,
            present: true,
            recent: Recent::default(),
            bucket: Bucket::default(),
            entries: 0,
            own,
            config,
            counters: Counters::default(),
        };
        match self.ports.get_mut(usize::from(index)) {
            Some(slot) => *slot = port,
            None => self.ports.push(port),
        }
        self.changes += 1;
        Ok(PortId::new(index, generation))
    }

    /// The port keeps its counters and what was learned from it in VLANs that it still carries.
    pub fn change_port(&mut self, id: PortId, config: PortConfig) -> Result<(), Refused> {
        let index = self.index(id).ok_or(Refused::UnknownPort)?;
        let own = Port::own_bits(&config);
        self.check_claim(index, own, &config)?;
        self.forget(|entry| {
            let vid = Vid::new(entry.vid());
            entry.port == index && (entry.fixed || !vid.is_some_and(|vid| config.vlan.carries(vid)))
        });
        self.claim(index, own, &config)?;
        let port = &mut self.ports[usize::from(index)];
        port.own = own;
        port.config = config;
        self.changes += 1;
        Ok(())
    }

    /// Forgets the port and its addresses; gives its last counters.
    pub fn remove_port(&mut self, id: PortId) -> Option<Counters> {
        let index = self.index(id)?;
        self.forget(|entry| entry.port == index);
        let port = &mut self.ports[usize::from(index)];
        port.present = false;
        self.changes += 1;
        Some(core::mem::take(&mut port.counters))
    }

    /// The verdict on a frame. `header`: its first bytes, 18 of them if it has as many.
    #[inline]
    pub fn forward(&mut self, now: Instant, from: PortId, header: &[u8], size: Size) -> Verdict {
        let Some(port) = self.ports.get_mut(from.index()) else { return self.unknown(size) };
        if !port.present || PortId::new(from.index() as u16, port.generation) != from {
            return self.unknown(size);
        }
        port.counters.received.add(size);
        if let Some(first) = header.first_chunk::<16>() {
            let recent = &port.recent;
            if let Some(to) = recent.to
                && recent.first == identity(first)
                && recent.changes == self.changes
                && now.nanos() < recent.until_nanos
                && size.largest <= recent.largest
            {
                port.counters.unicast += 1;
                return Verdict::To(to, recent.rewrite);
            }
        }
        let verdict = match self.decide(now, from, header, size) {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::Drop(reason),
        };
        let counters = &mut self.ports[from.index()].counters;
        match verdict {
            Verdict::To(..) => counters.unicast += 1,
            Verdict::Flood(_) => counters.flooded += 1,
            Verdict::Drop(reason) => counters.entry[reason as usize] += 1,
        }
        verdict
    }

    #[cold]
    fn unknown(&mut self, size: Size) -> Verdict {
        self.gone.received.add(size);
        self.gone.entry[Reason::UnknownPort as usize] += 1;
        Verdict::Drop(Reason::UnknownPort)
    }

    fn decide(&mut self, now: Instant, from: PortId, header: &[u8], size: Size) -> Result<Verdict, Reason> {
        let index = from.index();
        let mut first = [0; 16];
        let length = header.len().min(16);
        if length < 14 {
            return Err(Reason::Runt);
        }
        first[..length].copy_from_slice(&header[..length]);
        let [low, high] = identity(&first);
        let destination = low & 0xffff_ffff_ffff;
        let source = low >> 48 | (high & 0xffff_ffff) << 16;
        let port = &self.ports[index];
        let (form, vid) = if high >> 32 & 0xffff == TPID_LE {
            // A tagged frame has an EtherType behind the tag.
            if header.len() < 18 {
                return Err(Reason::Runt);
            }
            let tci = u16::from_be_bytes([first[14], first[15]]);
            match tci & 0xfff {
                0 => (Form::Priority(tci), port.config.vlan.untagged().ok_or(Reason::Untagged)?),
                vid => {
                    let vid = Vid::new(vid).ok_or(Reason::VlanReserved)?;
                    if matches!(port.config.vlan, crate::Vlan::Access(_)) {
                        return Err(Reason::Tagged);
                    }
                    if !port.config.vlan.carries(vid) {
                        return Err(Reason::VlanNotAllowed);
                    }
                    (Form::Tagged, vid)
                }
            }
        } else {
            (Form::Untagged, port.config.vlan.untagged().ok_or(Reason::Untagged)?)
        };
        if source & 1 != 0 || source == 0 {
            return Err(Reason::InvalidSource);
        }
        if port.config.spoof_check && port.own != Some(source) {
            return Err(Reason::Spoofed);
        }
        // IEEE 802.1Q table 8-1: 01-80-C2-00-00-00 to 01-80-C2-00-00-0F.
        if destination & 0xf0ff_ffff_ffff == 0x0000_00c2_8001 {
            return Err(Reason::ReservedAddress);
        }

        let seconds = (now.nanos() / NANOS_PER_SECOND) as u32;
        self.learn_bits(seconds, index as u16, key(source, vid.number()), now);

        let found =
            if destination & 1 != 0 { None } else { self.lookup(seconds, key(destination, vid.number())) };
        let Some(found) = found else {
            return self.flood(now, from, vid, form, size);
        };
        let to = usize::from(found.port);
        if to == index {
            return Err(Reason::Hairpin);
        }
        let egress = &self.ports[to];
        if !egress.config.vlan.carries(vid) {
            return Err(Reason::VlanNotAllowed);
        }
        let tagged = form != Form::Untagged;
        if !egress.fits(size.largest, tagged) {
            return Err(Reason::Oversize);
        }
        let rewrite = form.rewrite(&egress.config.vlan, vid);
        let to = PortId::new(found.port, egress.generation);
        let largest = egress.config.mtu.saturating_add(if tagged { 18 } else { 14 });
        // A second: the source's time of hearing is refreshed as often. An entry that ages out
        // within it was not heard for all of `ageing`, and is used that little longer.
        let until_nanos = now.nanos().saturating_add(NANOS_PER_SECOND);
        self.ports[index].recent =
            Recent { first: [low, high], until_nanos, changes: self.changes, largest, to: Some(to), rewrite };
        Ok(Verdict::To(to, rewrite))
    }

    fn flood(
        &mut self,
        now: Instant,
        from: PortId,
        vid: Vid,
        form: Form,
        size: Size,
    ) -> Result<Verdict, Reason> {
        let next = self.member_after(0, from, vid).ok_or(Reason::NoTarget)?;
        let port = &mut self.ports[from.index()];
        if let Some(storm) = port.config.storm
            && !port.bucket.admit(now, storm, size.segments)
        {
            return Err(Reason::Storm);
        }
        Ok(Verdict::Flood(Flood { from, vid, form, largest: size.largest, next }))
    }

    /// The next port that a flooded frame goes to. Each has to end in `delivered` or
    /// `not_delivered`.
    pub fn next_target(&mut self, flood: &mut Flood) -> Option<(PortId, Rewrite)> {
        loop {
            let index = self.member_after(flood.next, flood.from, flood.vid)?;
            flood.next = index.saturating_add(1);
            if let Some(from) = self.port_mut(flood.from) {
                from.counters.copies += 1;
            } else {
                self.gone.copies += 1;
            }
            let port = &mut self.ports[usize::from(index)];
            if port.fits(flood.largest, flood.form != Form::Untagged) {
                let rewrite = flood.form.rewrite(&port.config.vlan, flood.vid);
                return Some((PortId::new(index, port.generation), rewrite));
            }
            port.counters.exit[Reason::Oversize as usize] += 1;
        }
    }

    fn member_after(&self, start: u16, from: PortId, vid: Vid) -> Option<u16> {
        let rest = self.ports.get(usize::from(start)..)?;
        let found = rest.iter().enumerate().find(|(at, port)| {
            port.present && usize::from(start) + at != from.index() && port.config.vlan.carries(vid)
        })?;
        // Both lie below the 16-bit limit of ports.
        Some(start + found.0 as u16)
    }

    /// A copy reached the port's guest or wire.
    #[inline]
    pub fn delivered(&mut self, port: PortId, size: Size) {
        self.counters_of(port).sent.add(size);
    }

    /// A copy meant for the port ended otherwise.
    #[inline]
    pub fn not_delivered(&mut self, port: PortId, reason: Reason) {
        self.counters_of(port).exit[reason as usize] += 1;
    }

    /// Where an address was last heard, told by somebody who saw the frame: a lane that serves
    /// another part of the same network, or a guest that announces itself.
    pub fn learn(&mut self, now: Instant, port: PortId, mac: Mac, vid: Vid) {
        if let Some(index) = self.index(port)
            && !mac.is_group()
            && mac != Mac::default()
            && self.ports[usize::from(index)].config.vlan.carries(vid)
        {
            let b = mac.0;
            let bits = u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0]);
            let seconds = (now.nanos() / NANOS_PER_SECOND) as u32;
            self.learn_bits(seconds, index, key(bits, vid.number()), now);
        }
    }

    fn learn_bits(&mut self, seconds: u32, index: u16, key: u64, now: Instant) {
        let Some(at) = self.table.find(key) else {
            let port = &mut self.ports[usize::from(index)];
            let room = self.learned < self.config.entries_max && port.entries < port.config.entries_max;
            if room && self.table.insert(Entry { key, port: index, fixed: false, seen: seconds }) {
                port.entries += 1;
                self.learned += 1;
                self.changes += 1;
                if self.sweep_at.is_none() {
                    self.sweep_at = Some(now.after(self.sweep_interval()));
                }
            } else {
                port.counters.not_learned += 1;
            }
            return;
        };
        let entry = self.table.get(at);
        if entry.port == index {
            if entry.seen != seconds && !entry.fixed {
                self.table.get_mut(at).seen = seconds;
            }
            return;
        }
        let port = &mut self.ports[usize::from(index)];
        if entry.fixed {
            port.counters.claims_refused += 1;
        } else if port.entries >= port.config.entries_max {
            port.counters.not_learned += 1;
        } else {
            port.entries += 1;
            port.counters.moved_in += 1;
            self.ports[usize::from(entry.port)].entries -= 1;
            *self.table.get_mut(at) = Entry { key, port: index, fixed: false, seen: seconds };
            self.changes += 1;
        }
    }

    fn lookup(&self, seconds: u32, key: u64) -> Option<Entry> {
        let entry = self.table.get(self.table.find(key)?);
        (entry.fixed || seconds.saturating_sub(entry.seen) <= self.ageing_seconds).then_some(entry)
    }

    /// Frees entries that are out of date, a bounded number of slots at a call. Lookups do not
    /// depend on it.
    pub fn age(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| now < at) {
            return;
        }
        let seconds = (now.nanos() / NANOS_PER_SECOND) as u32;
        for _ in 0..SWEEP_SLOTS.min(self.table.len()) {
            let entry = self.table.get(self.sweep_next);
            let old = seconds.saturating_sub(entry.seen) > self.ageing_seconds;
            if entry.key != 0 && !entry.fixed && old {
                // Another entry may move into the slot: look at it again.
                self.drop_entry(self.sweep_next);
            } else {
                self.sweep_next = (self.sweep_next + 1) % self.table.len();
            }
        }
        self.sweep_at = (self.learned > 0).then(|| now.after(self.sweep_interval()));
    }

    /// When `age` has something to do again; `None` while nothing is learned.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Such that the whole table is looked at about once in half the ageing time.
    fn sweep_interval(&self) -> Duration {
        let chunks = self.table.len().div_ceil(SWEEP_SLOTS) as u32;
        (Duration::from_secs(u64::from(self.ageing_seconds)) / 2 / chunks).max(Duration::from_millis(100))
    }

    fn drop_entry(&mut self, at: usize) {
        let entry = self.table.get(at);
        self.table.remove(at);
        if !entry.fixed {
            self.ports[usize::from(entry.port)].entries -= 1;
            self.learned -= 1;
        }
        self.changes += 1;
    }

    fn forget(&mut self, which: impl Fn(&Entry) -> bool) {
        let mut at = 0;
        // A removal near the end of the table may bring an entry from its beginning; those were
        // looked at already, because the walk starts there.
        while at < self.table.len() {
            let entry = self.table.get(at);
            if entry.key != 0 && which(&entry) {
                self.drop_entry(at);
            } else {
                at += 1;
            }
        }
    }

    fn check_claim(&self, index: u16, own: Option<u64>, config: &PortConfig) -> Result<Option<u64>, Refused> {
        let (Some(own), Some(vid)) = (own, config.vlan.untagged()) else { return Ok(None) };
        let key = key(own, vid.number());
        match self.table.find(key).map(|at| self.table.get(at)) {
            Some(entry) if entry.fixed && entry.port != index => {
                let generation = self.ports[usize::from(entry.port)].generation;
                Err(Refused::MacTaken(PortId::new(entry.port, generation)))
            }
            _ => Ok(Some(key)),
        }
    }

    /// Makes `own` an entry that stays.
    fn claim(&mut self, index: u16, own: Option<u64>, config: &PortConfig) -> Result<(), Refused> {
        let Some(key) = self.check_claim(index, own, config)? else { return Ok(()) };
        if let Some(at) = self.table.find(key) {
            self.drop_entry(at);
        }
        self.table.insert(Entry { key, port: index, fixed: true, seen: 0 });
        Ok(())
    }

    fn index(&self, id: PortId) -> Option<u16> {
        let port = self.ports.get(id.index())?;
        let index = id.index() as u16;
        (port.present && PortId::new(index, port.generation) == id).then_some(index)
    }

    fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        let index = self.index(id)?;
        self.ports.get_mut(usize::from(index))
    }

    fn counters_of(&mut self, id: PortId) -> &mut Counters {
        match self.index(id) {
            Some(index) => &mut self.ports[usize::from(index)].counters,
            None => &mut self.gone,
        }
    }

    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortConfig, &Counters)> {
        let present = self.ports.iter().enumerate().filter(|(_, port)| port.present);
        present.map(|(at, port)| (PortId::new(at as u16, port.generation), &port.config, &port.counters))
    }

    pub fn counters(&self, id: PortId) -> Option<&Counters> {
        Some(&self.ports[usize::from(self.index(id)?)].counters)
    }

    /// Ends of frames whose port was removed while they travelled.
    pub fn gone(&self) -> &Counters {
        &self.gone
    }

    /// The forwarding database, for an operator to read.
    pub fn known(&self, now: Instant) -> impl Iterator<Item = Known> {
        let seconds = (now.nanos() / NANOS_PER_SECOND) as u32;
        self.table.iter().filter_map(move |entry| {
            let age = seconds.saturating_sub(entry.seen);
            let stale = !entry.fixed && age > self.ageing_seconds;
            let port = PortId::new(entry.port, self.ports[usize::from(entry.port)].generation);
            Some(Known {
                vid: Vid::new(entry.vid())?,
                mac: Mac(entry.mac()),
                port,
                age: (!entry.fixed).then(|| Duration::from_secs(u64::from(age))),
            })
            .filter(|_| !stale)
        })
    }
}

/// The bytes that a verdict depends on, as two words: addresses and EtherType, and the TCI behind
/// 8100h.
#[inline]
fn identity(first: &[u8; 16]) -> [u64; 2] {
    let word = |at: usize| {
        let b = &first[at..];
        u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    };
    let high = word(8);
    let tagged = high >> 32 & 0xffff == TPID_LE;
    [word(0), if tagged { high } else { high & 0xffff_ffff_ffff }]
}
