//! One emulated slot: its listener, its link, its guest's memory, its configuration space and its model.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use control::Problem;
use control::step::SlotSpec;
use guest_memory::Memory;
use host::wait::{Interest, Wait};
use pci::{Config, IrqMode};
use request::Instant;
use vfio_user::{Area, Device as Described, Fault};

use super::super::link::LISTENER;
use super::super::listener::listen;
use super::super::token::Token;
use super::irqs::Irqs;
use super::link::Link;
use super::memory::GuestMemory;
use super::model::Model;
use crate::blame;
use crate::vault::Vault;

/// The form of what [`Slot::state`] gives.
const STATE_VERSION: u32 = 1;

/// The number by which [`blame`] knows a slot: beside those of slots with rings.
pub const fn blamed_as(index: u32) -> u32 {
    index | 1 << 31
}

/// A slot as its lane has it.
pub struct Slot {
    pub index: u32,
    pub spec: SlotSpec,
    pub link: Link,
    pub model: Model,
    pub config: Config,
    pub guest: GuestMemory,
    /// What the model sees of it.
    pub memory: Arc<Memory>,
    /// That is another since somebody asked last.
    pub sees_another: bool,
    pub irqs: Irqs,
    pub described: Described,
    pub rom: Vec<u8>,
    /// Its device brought the worker down: messages are answered as if there were none behind them.
    pub quarantined: bool,
    /// It brought the worker down even so, and is left alone.
    pub abandoned: bool,
    /// Commands at the disks, those of a guest that left included.
    pub outstanding: u32,
    /// Counts guests, so that a command which outlives one finds no other.
    pub epoch: u32,
    /// In the lane's list of slots that are looked at every turn.
    pub active: bool,
    /// In the lane's list of slots with something to publish.
    pub staged: bool,
    /// When its socket was looked at.
    pub looked_at: u64,
    /// When it last had work, for the decision to sleep.
    pub worked_at: u64,
    /// Its driver has rung soon after it was told to: the next time it is told to later.
    pub lingers: bool,
    pub rested_at: u64,
    pub listener: UnixListener,
    pub interest: Interest,
    /// A message waits for requests to end, since then.
    pub held: Option<Instant>,
    pub config_dirty: bool,
    /// The state that goes to another server.
    pub saved: Vec<u8>,
    /// The device came from another server, and was not started yet.
    pub arrived: bool,
    /// The model was made anew, and knows nothing of its network.
    pub renewed: bool,
    /// It has begun to work here: the network is to learn where it is now.
    pub announces: bool,
    pub counters: Counters,
}

#[derive(Default)]
pub struct Counters {
    pub faults: [u64; Fault::ALL.len()],
    pub messages: u64,
    pub looks: u64,
    pub reads: u64,
    pub writes: u64,
    pub interrupts: u64,
    /// Looks at a slot that sleeps and cannot say that there is work; and those that found some.
    pub unasked: u64,
    pub found: u64,
    /// Messages that were followed although requests under way still use what they take away.
    pub overdue: u64,
}

impl Slot {
    /// Makes the slot, or takes it up where the last worker left it. If that fails, all of that is still
    /// in `estate`. `make` is the model, on its hot state.
    pub fn new(
        index: u32,
        spec: SlotSpec,
        make: impl FnOnce(guest_memory::Window) -> Model,
        estate: &mut HashMap<String, OwnedFd>,
        vault: &Vault,
        wait: &Wait,
        now: Instant,
    ) -> Result<Self, Problem> {
        let name = spec.id.to_string();
        let failed = |what: &str, error: std::io::Error| {
            Problem::failed(format!("{what}: {error}")).at(format!("vm.{name}"))
        };
        let rom = match spec.device.rom() {
            Some(path) => super::model::read_rom(path)?,
            None => Vec::new(),
        };
        let listener = listen(&spec, estate, vault)?;
        wait.add(listener.as_fd(), Token::EmulatedListener(index).into(), Interest::READ)
            .map_err(|error| failed("cannot wait for connections", error))?;
        let (id, hot, _) = super::model::hot_of(&spec.device);
        let pages = super::model::doorbells_of(&spec.device);
        let link = Link::resume(&name, id, hot, pages, estate, vault).map_err(|error| {
            let _ = wait.delete(listener.as_fd());
            failed("cannot make the slot's ledger", error)
        })?;
        let certificate = link.ledger.certificate();
        let deaths = blame::deaths(&certificate);
        let quarantined = blame::is_quarantined(&certificate, host::process::now_nanos());
        blame::enroll(blamed_as(index), certificate);
        blame::turn_to(blamed_as(index));
        let model = make(link.ledger.hot());
        let layout = &super::model::shown(model.function().layout(), &spec.device);
        if !rom.is_empty()
            && let Err(error) = pci::check_rom(&rom, layout)
        {
            tracing::warn!(slot = name, ?error, "firmware will not start this option ROM");
        }
        let rom_bytes = region_of(&rom);
        let config = Config::new(layout, rom_bytes);
        let described = super::model::describe(layout, rom_bytes, config.len() as u64);
        let mut slot = Self {
            index,
            config,
            described,
            rom,
            link,
            model,
            guest: GuestMemory::default(),
            memory: Memory::empty(),
            sees_another: false,
            irqs: Irqs::default(),
            quarantined,
            abandoned: quarantined && deaths >= 2 * blame::DEATHS_MAX,
            outstanding: 0,
            epoch: 0,
            active: false,
            staged: false,
            looked_at: 0,
            worked_at: 0,
            lingers: false,
            rested_at: 0,
            listener,
            interest: Interest::READ,
            held: None,
            config_dirty: false,
            saved: Vec::new(),
            arrived: false,
            renewed: false,
            announces: false,
            counters: Counters::default(),
            spec,
        };
        if slot.quarantined {
            tracing::error!(
                slot = name,
                "this device brought the server down {deaths} times; it does nothing any more"
            );
        }
        if !slot.abandoned {
            slot.resume_link(wait, now);
        }
        Ok(slot)
    }

    /// What the last worker left half-way, then everything that its session says is there.
    fn resume_link(&mut self, wait: &Wait, now: Instant) {
        if !self.link.is_connected() {
            return;
        }
        if let Err(error) = self.link.settle() {
            tracing::info!(slot = self.link.name, %error, "disconnected while the server was away");
            self.disconnect(wait);
            return;
        }
        self.share_doorbells();
        let state = self.link.ledger.model();
        // Empty: nothing was written yet that would not be as after power on.
        if !state.is_empty() && !self.restore(&state) {
            tracing::error!(
                slot = self.link.name,
                "the device's state cannot be read; it is as after power on"
            );
        }
        self.rebuild_memory(None);
        self.resume_log();
        if !self.quarantined && !self.is_stopped() {
            self.model.function_mut().resume(&self.memory);
        }
        self.irqs.sync(&self.link, self.index, wait);
        self.sync_irq_mode();
        self.signal();
        self.save();
        self.worked_at = now.nanos();
        self.interest = Interest::READ;
        if let Some(stream) = &self.link.stream {
            let _ = wait.add(stream.as_fd(), Token::Emulated(self.index).into(), self.interest);
        }
    }

    /// Version 1: configuration space, then the model's own.
    pub(super) fn state(&self) -> Vec<u8> {
        let config = self.config.encode();
        let mut bytes = STATE_VERSION.to_le_bytes().to_vec();
        bytes.extend((config.len() as u32).to_le_bytes());
        bytes.extend(config);
        bytes.extend(self.model.function().state());
        bytes
    }

    /// `false`: these bytes are no state of this slot's device.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> bool {
        let word = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, u32::from_le_bytes)
        };
        let len = word(4) as usize;
        let parts = bytes.get(8..).and_then(|rest| rest.split_at_checked(len));
        let (Some((config, model)), STATE_VERSION) = (parts, word(0)) else { return false };
        let layout = super::model::shown(self.model.function().layout(), &self.spec.device);
        let Some(config) = Config::decode(&layout, self.rom_bytes(), config) else {
            return false;
        };
        self.config = config;
        if !self.quarantined {
            self.model.function_mut().restore(model);
        }
        true
    }

    /// The device's state, if it changed since it was last asked for.
    pub fn changed_state(&mut self) -> Option<Vec<u8>> {
        if self.quarantined {
            return None;
        }
        let model = self.model.function_mut().take_dirty();
        let config = std::mem::take(&mut self.config_dirty);
        (model || config).then(|| self.state())
    }

    /// Puts what changed where a successor finds it.
    pub fn save(&mut self) {
        if let Some(state) = self.changed_state() {
            self.link.save_model(&state);
        }
    }

    /// Clients that held the server up have a record by now.
    fn judge(&mut self) {
        let certificate = self.link.ledger.certificate();
        if !blame::is_quarantined(&certificate, host::process::now_nanos()) {
            return;
        }
        if !self.quarantined {
            tracing::error!(
                slot = self.link.name,
                "this slot's clients held the server up; it does nothing any more"
            );
        }
        self.quarantined = true;
        self.abandoned = blame::deaths(&certificate) >= 2 * blame::DEATHS_MAX;
    }

    /// A client wants to connect.
    pub fn accept(&mut self, wait: &Wait) {
        if !self.link.is_connected() && !self.abandoned {
            self.judge();
        }
        if self.link.is_connected() || self.abandoned || self.outstanding > 0 {
            // One at a time: the next one waits in the listener's queue until this one has left and
            // the last of its requests has ended, lest an old write overtake a new one.
            let token = Token::EmulatedListener(self.index).into();
            let _ = wait.modify(self.listener.as_fd(), token, Interest::NONE);
            return;
        }
        let Ok((stream, _)) = self.listener.accept() else { return };
        if let Err(error) = self.link.connect(stream) {
            tracing::warn!(slot = self.link.name, %error, "a connection was lost as it came");
            return;
        }
        if self.spec.device.maps_doorbells()
            && !self.quarantined
            && let Some(pages) = self.model.function().pages()
        {
            match self.link.make_doorbells(pages) {
                Ok(()) => {
                    self.share_doorbells();
                    self.power_on();
                    self.save();
                }
                Err(error) => {
                    tracing::warn!(slot = self.link.name, %error, "no page for doorbells; they are messages");
                }
            }
        }
        self.interest = Interest::READ;
        if let Some(stream) = &self.link.stream {
            let _ = wait.add(stream.as_fd(), Token::Emulated(self.index).into(), self.interest);
        }
    }

    /// The client may map the doorbells that the link has, and none otherwise.
    pub(super) fn share_doorbells(&mut self) {
        for region in &mut self.described.regions {
            region.areas.clear();
        }
        let doorbells = self.link.doorbells.as_ref();
        self.guest.ours = doorbells.map(|doorbells| doorbells.identity);
        let window = doorbells.map(|doorbells| doorbells.window.clone());
        let function = self.model.function_mut();
        if let (Some(pages), Some(_)) = (function.pages(), &window)
            && let Some(region) = self.described.regions.get_mut(usize::from(pages.bar))
        {
            region.areas.push(Area { offset: pages.offset.into(), size: pages.bytes.into() });
        }
        if !self.quarantined {
            function.share(window);
        }
    }

    /// Acts on what the driver stored in pages that are doorbells.
    pub fn look(&mut self, now: Instant) -> bool {
        if self.quarantined || self.is_stopped() || self.link.doorbells.is_none() {
            return false;
        }
        let came = self.model.function_mut().look(now);
        if came {
            self.save();
            self.signal();
        }
        came
    }

    /// Nobody says when there is work.
    pub fn is_silent(&self) -> bool {
        let function = self.model.function();
        self.may_be_silent() && (function.is_silent() || function.is_hushed())
    }

    /// Has the driver ring from now on. True: there is work that it may not have rung for.
    pub fn rest(&mut self, now: Instant) -> bool {
        if self.is_stopped() {
            return false;
        }
        self.rested_at = now.nanos();
        self.model.set_doorbells(now, &self.memory, true);
        self.model.has_work()
    }

    /// Its driver would ring if it were asked to.
    pub fn is_hushed(&self) -> bool {
        self.may_be_silent() && self.model.function().is_hushed()
    }

    fn may_be_silent(&self) -> bool {
        !self.quarantined && !self.is_stopped() && self.link.is_connected()
    }

    /// The last request of a client that left has ended.
    pub fn listen_again(&self, wait: &Wait) {
        if !self.link.is_connected() && !self.abandoned {
            let token = Token::EmulatedListener(self.index).into();
            let _ = wait.modify(self.listener.as_fd(), token, Interest::READ);
        }
    }

    pub fn listen_for(&mut self, wait: &Wait, interest: Interest) {
        if self.interest == interest {
            return;
        }
        self.interest = interest;
        if let Some(stream) = &self.link.stream {
            let _ = wait.modify(stream.as_fd(), Token::Emulated(self.index).into(), interest);
        }
    }

    /// Ends the connection. Requests at a disk go on, into memory that they hold; their ends find no
    /// guest.
    pub fn disconnect(&mut self, wait: &Wait) {
        if let Some(stream) = &self.link.stream {
            let _ = wait.delete(stream.as_fd());
        }
        self.irqs.clear(wait);
        // Before the memory goes: it makes a map of it without a log.
        self.stop_log();
        self.guest.clear();
        self.set_memory();
        self.power_on();
        self.epoch = self.epoch.wrapping_add(1);
        self.held = None;
        (self.saved, self.arrived, self.announces) = (Vec::new(), false, false);
        self.link.disconnect();
        self.share_doorbells();
        // What there was is gone with the guest: nothing of it is to be found by a successor.
        self.config_dirty = true;
        self.save();
        if self.outstanding == 0 {
            self.listen_again(wait);
        }
    }

    /// As after power on.
    pub fn power_on(&mut self) {
        self.config.reset();
        self.config_dirty = true;
        if !self.quarantined {
            self.model.function_mut().reset();
        }
        self.set_memory();
        self.sync_irq_mode();
    }

    pub fn rebuild_memory(&mut self, without: Option<(u64, u64)>) {
        let none_before = self.guest.unmapped == 0;
        self.guest.rebuild(&self.link.session.state.maps, &self.link.fds, without);
        if none_before && let Some(why) = self.guest.refused.take() {
            // Once: its client may do this again and again.
            tracing::warn!(slot = self.link.name, %why, "memory of the guest cannot be mapped");
        }
        self.set_memory();
    }

    /// The map is as the session says, if it was not yet.
    pub fn refresh_memory(&mut self) {
        if self.guest.is_stale {
            self.rebuild_memory(None);
        }
    }

    /// The model sees memory if it may reach it.
    pub fn set_memory(&mut self) {
        let seen = self.guest.seen(self.config.bus_master());
        if Arc::ptr_eq(&seen, &self.memory) {
            return;
        }
        self.memory = seen;
        self.sees_another = true;
        if !self.quarantined {
            self.model.function_mut().memory_changed(&self.memory);
        }
    }

    /// How interrupts reach the guest: as its driver says, or as its client has set them up.
    pub fn sync_irq_mode(&mut self) {
        use vfio_user::numbers::{IRQ_MSI, IRQ_MSIX};
        let session = &self.link.session;
        let mode = match self.config.irq_mode() {
            mode @ (IrqMode::Msi | IrqMode::MsiX) => mode,
            _ if session.assigned(IRQ_MSIX) != 0 => IrqMode::MsiX,
            _ if session.assigned(IRQ_MSI) != 0 => IrqMode::Msi,
            mode => mode,
        };
        if self.irqs.mode != mode {
            self.irqs.mode = mode;
            if !self.quarantined {
                self.model.function_mut().set_irq_mode(mode);
            }
        }
    }

    fn rom_bytes(&self) -> u32 {
        region_of(&self.rom)
    }

    /// Tells the guest what the model wants it to be told.
    pub fn signal(&mut self) {
        if !self.quarantined && !self.is_stopped() {
            self.signal_now();
        }
        if std::mem::take(&mut self.irqs.unsaved) {
            self.link.save_session();
        }
    }

    /// In the middle of a message, with which the session is saved.
    pub(super) fn signal_now(&mut self) {
        self.irqs.collect(self.model.function_mut().interrupts());
        self.counters.interrupts += self.irqs.signal(&mut self.link);
    }

    pub fn deadline(&self) -> Option<Instant> {
        if self.quarantined || !self.link.is_connected() {
            return None;
        }
        let patience = self.held.map(super::turn::overdue_at);
        if self.is_stopped() {
            return patience;
        }
        [self.model.function().deadline(), patience].into_iter().flatten().min()
    }

    /// Leaves everything as a dying worker would, for another lane to take up.
    pub fn release(mut self, wait: &Wait) -> HashMap<String, OwnedFd> {
        self.save();
        let _ = wait.delete(self.listener.as_fd());
        if let Some(stream) = &self.link.stream {
            let _ = wait.delete(stream.as_fd());
        }
        self.irqs.clear(wait);
        let mut left = self.link.give_up();
        left.insert(LISTENER.to_owned(), OwnedFd::from(self.listener));
        left
    }

    /// The slot is removed for good.
    pub fn remove(mut self, wait: &Wait) {
        let _ = wait.delete(self.listener.as_fd());
        self.disconnect(wait);
        self.link.forget_all();
        let _ = std::fs::remove_file(&self.spec.socket);
    }

    /// Named ends of the link and of the model, for the operator.
    pub fn report(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let faults =
            Fault::ALL.iter().map(|fault| (fault.name().to_owned(), self.counters.faults[*fault as usize]));
        let own = [
            ("messages", self.counters.messages),
            ("looks", self.counters.looks),
            ("register_reads", self.counters.reads),
            ("register_writes", self.counters.writes),
            ("interrupts_sent", self.counters.interrupts),
            ("doorbells_mapped", u64::from(self.link.doorbells.is_some())),
            ("looks_unasked", self.counters.unasked),
            ("looks_unasked_found", self.counters.found),
            ("regions_unmapped", self.guest.unmapped),
            ("descriptors_refused", self.link.descriptors_refused),
            ("overdue", self.counters.overdue),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        faults.chain(own).chain(self.model.counters())
    }
}

/// A ROM's region is a power of two of bytes, as its register asks for.
fn region_of(rom: &[u8]) -> u32 {
    if rom.is_empty() { 0 } else { (rom.len() as u32).next_power_of_two().max(2048) }
}
