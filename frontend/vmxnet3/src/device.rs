//! The device: registers, queues and interrupts as one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::bits::{self, TX_QUEUES, VECTORS, event};
use crate::config::Config;
use crate::control::Control;
use crate::hot::Hot;
use crate::interrupts::Vectors;
use crate::receive::{Numbers, Receive};
use crate::shared::{self, Setup, at, queue};
use crate::statistics::Statistics;
use crate::transmit::Transmit;
use frame::{Drop, Refused};
use guest_memory::{Memory, Window};
use request::{Address, Instant};

/// What an operator sees beside what the driver does.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub transmitted_frames: u64,
    pub transmitted_bytes: u64,
    pub received_frames: u64,
    pub received_bytes: u64,
    pub drops: [u64; Drop::COUNT],
    pub refused: [u64; Refused::COUNT],
    pub commands: u64,
    pub commands_refused: u64,
    pub activations: u64,
    pub doorbells: u64,
    pub queues_stopped: u64,
}

/// One NIC.
pub struct Vmxnet3 {
    pub(crate) config: Config,
    pub(crate) control: Control,
    pub(crate) dirty: bool,
    pub(crate) hot: Hot,
    pub(crate) transmit: Vec<Transmit>,
    pub(crate) receive: Vec<Receive>,
    /// The shared area, found once.
    pub(crate) area: Option<Window>,
    /// The queues' descriptors.
    pub(crate) descriptors: Option<Window>,
    /// Drivers ring when they post frames.
    pub(crate) doorbells: bool,
    /// When to look again for what was posted while doorbells were being switched on.
    pub(crate) look_again: Option<Instant>,
    pub(crate) vectors: Vectors,
    /// Events that the shared area does not have yet.
    pub(crate) events_due: u32,
    pub(crate) counters: Counters,
    /// Room for headers that are changed.
    pub(crate) scratch: Option<Box<crate::deliver::Scratch>>,
}

impl Vmxnet3 {
    /// As after power on. `hot`: [`crate::HOT_BYTES`], zeroed when new.
    pub fn new(config: Config, hot: Window) -> Vmxnet3 {
        Vmxnet3 {
            control: Control::new(&config),
            config,
            dirty: true,
            hot: Hot::new(hot),
            transmit: Vec::new(),
            receive: Vec::new(),
            area: None,
            descriptors: None,
            doorbells: true,
            look_again: None,
            vectors: Vectors::new(),
            events_due: 0,
            counters: Counters::default(),
            scratch: Some(Box::new(crate::deliver::Scratch::new())),
        }
    }

    pub fn counts(&self) -> &Counters {
        &self.counters
    }

    /// What stays over RESET_DEV and a PCI reset alike: who we are and whether there is a cable.
    pub(crate) fn clear(&mut self) {
        let link = (self.control.link_up, self.control.link_mbps);
        self.control = Control::new(&self.config);
        (self.control.link_up, self.control.link_mbps) = link;
        self.quiesce();
        self.vectors.reset();
        self.vectors.mask_all();
        self.hot.set_unmasked(0);
        let none = Statistics::default();
        for index in 0..TX_QUEUES + bits::RX_QUEUES {
            let stored = self.hot.statistics(index);
            self.hot.set_statistics(index, &stored, &none);
        }
        self.events_due = 0;
        self.dirty = true;
    }

    /// No queues.
    pub(crate) fn quiesce(&mut self) {
        self.control.setup = None;
        self.control.errors.clear();
        self.transmit.clear();
        self.receive.clear();
        self.area = None;
        self.descriptors = None;
        self.doorbells = true;
        self.look_again = None;
        self.dirty = true;
    }

    /// ACTIVATE_DEV
    pub(crate) fn activate(&mut self, memory: &Memory) -> bool {
        self.quiesce();
        let Some(setup) = Setup::read(memory, self.control.shared, self.control.revision) else {
            return false;
        };
        self.vectors.auto_mask = setup.auto_mask;
        self.vectors.set_levels(&setup.levels);
        self.control.errors.resize(setup.transmit.len() + setup.receive.len(), 0);
        self.make_queues(&setup);
        self.control.setup = Some(setup);
        if !self.locate(memory) {
            self.quiesce();
            return false;
        }
        for (index, queue) in self.transmit.iter().enumerate() {
            self.hot.set_transmit(index, queue.places());
        }
        for (index, queue) in self.receive.iter().enumerate() {
            self.hot.set_receive(index, queue.places());
        }
        if let Some(area) = self.area.clone() {
            self.read_features(memory, &area);
            self.control.filter.read_mode(&area);
            self.control.filter.read_vlans(&area);
            self.control.filter.read_multicast(memory, &area);
        }
        // Linux takes the same descriptors again, with what was stored there for its last rings.
        self.store_thresholds(memory);
        self.control.events = 0;
        self.counters.activations += 1;
        true
    }

    /// UPDATE_FEATURE
    pub(crate) fn read_features(&mut self, memory: &Memory, area: &Window) {
        self.control.features = area.load_u64(at::FEATURES);
        if self.control.features & bits::feature::RSS == 0 || !self.control.rss.read(memory, area) {
            self.control.rss.off();
        }
    }

    fn make_queues(&mut self, setup: &Setup) {
        self.transmit = setup.transmit.iter().map(|queue| Transmit::new(*queue)).collect();
        let queues = setup.receive.len() as u16;
        self.receive = (0..queues)
            .zip(&setup.receive)
            .map(|(queue, setup)| Receive::new(*setup, Numbers { queue, queues }))
            .collect();
        for (index, queue) in self.transmit.iter_mut().enumerate() {
            queue.statistics = self.hot.statistics(index);
            queue.stored = queue.statistics;
        }
        for (index, queue) in self.receive.iter_mut().enumerate() {
            queue.statistics = self.hot.statistics(TX_QUEUES + index);
            queue.stored = queue.statistics;
        }
    }

    /// Finds all rings and the shared area. `false`: some are not there.
    pub(crate) fn locate(&mut self, memory: &Memory) -> bool {
        self.area = shared::area(memory, self.control.shared);
        self.descriptors = self.control.setup.as_ref().and_then(|setup| setup.descriptors(memory));
        let mut all = self.area.is_some() && self.descriptors.is_some();
        for queue in &mut self.transmit {
            all &= queue.locate(memory);
        }
        for queue in &mut self.receive {
            all &= queue.locate(memory);
        }
        all
    }

    /// A queue stands still from now on, and the driver is told.
    pub(crate) fn stopped(&mut self, transmit: bool, index: usize, error: u32) {
        let place = if transmit { index } else { self.transmit.len() + index };
        if let Some(slot) = self.control.errors.get_mut(place) {
            *slot = error;
        }
        self.raise_event(if transmit { event::TQERR } else { event::RQERR });
        self.counters.queues_stopped += 1;
        self.dirty = true;
    }

    /// Noted now, told with the next `publish` or `expire`, which have the memory.
    pub(crate) fn raise_event(&mut self, events: u32) {
        if self.control.setup.is_some() {
            self.events_due |= events;
        }
    }

    /// Writes events to the shared area, and interrupts.
    pub(crate) fn tell_events(&mut self, now: Instant, memory: &Memory) {
        if self.events_due == 0 {
            return;
        }
        self.control.events |= core::mem::take(&mut self.events_due);
        self.dirty = true;
        self.store_events(memory);
        if let Some(setup) = &self.control.setup {
            self.vectors.event(now, usize::from(setup.event_vector));
        }
    }

    pub(crate) fn store_events(&self, memory: &Memory) {
        if let Some(area) = &self.area {
            area.store_u32(at::EVENTS, self.control.events);
            memory.mark_range(Address(self.control.shared.wrapping_add(at::EVENTS as u64)), 4);
        }
    }

    /// GET_QUEUE_STATUS
    pub(crate) fn store_status(&self, memory: &Memory) {
        self.each_descriptor(memory, |index, descriptor| {
            let error = self.control.errors.get(index).copied().unwrap_or(0);
            descriptor.store_u32(queue::STATUS, (error != 0).into());
            descriptor.store_u32(queue::STATUS + 4, error);
        });
    }

    /// GET_STATS
    pub(crate) fn store_statistics(&self, memory: &Memory) {
        let all: Vec<&Statistics> = self
            .transmit
            .iter()
            .map(|queue| &queue.statistics)
            .chain(self.receive.iter().map(|queue| &queue.statistics))
            .collect();
        self.each_descriptor(memory, |index, descriptor| {
            if let Some(numbers) = all.get(index) {
                descriptor.write_bytes(queue::STATISTICS, &numbers.encode());
            }
        });
    }

    fn each_descriptor(&self, memory: &Memory, write: impl Fn(usize, &Window)) {
        let (Some(setup), Some(all)) = (&self.control.setup, &self.descriptors) else { return };
        for index in 0..setup.transmit.len() + setup.receive.len() {
            if let Some(descriptor) = all.sub(index * queue::BYTES, queue::BYTES) {
                write(index, &descriptor);
            }
        }
        memory.mark_range(Address(setup.queues), all.len() as u32);
    }

    /// Shows the driver what is done, and stores where that leaves us.
    pub(crate) fn publish_all(&mut self, now: Instant, memory: &Memory) {
        for index in 0..self.transmit.len() {
            self.publish_transmit(now, memory, index);
        }
        for index in 0..self.receive.len() {
            self.publish_receive(now, memory, index);
        }
        self.tell_events(now, memory);
    }

    pub(crate) fn publish_transmit(&mut self, now: Instant, memory: &Memory, index: usize) {
        let Some(queue) = self.transmit.get_mut(index).filter(|queue| queue.is_dirty()) else { return };
        let count = queue.publish(memory);
        self.hot.set_transmit(index, queue.places());
        self.hot.set_statistics(index, &queue.stored, &queue.statistics);
        queue.stored = queue.statistics;
        if count > 0 {
            self.vectors.completed(now, usize::from(queue.setup.vector), 0, count as u32);
        }
    }

    pub(crate) fn publish_receive(&mut self, now: Instant, memory: &Memory, index: usize) {
        let Some(queue) = self.receive.get_mut(index).filter(|queue| queue.is_dirty()) else { return };
        let count = queue.publish(memory);
        self.hot.set_receive(index, queue.places());
        self.hot.set_statistics(TX_QUEUES + index, &queue.stored, &queue.statistics);
        queue.stored = queue.statistics;
        self.vectors.completed(now, usize::from(queue.setup.vector), count, 0);
    }

    /// A predecessor's control state is there; its rings are to be found.
    pub(crate) fn take_up(&mut self, control: Control) {
        self.quiesce();
        self.control = control;
        self.vectors.reset();
        self.vectors.coalescing = self.control.coalescing;
        self.vectors.set_unmasked(self.hot.unmasked());
        if let Some(setup) = self.control.setup.clone() {
            self.vectors.auto_mask = setup.auto_mask;
            self.vectors.set_levels(&setup.levels);
            self.make_queues(&setup);
            let (transmit, receive) =
                self.control.errors.split_at(setup.transmit.len().min(self.control.errors.len()));
            self.transmit.iter_mut().zip(transmit).for_each(|(queue, error)| queue.error = *error);
            self.receive.iter_mut().zip(receive).for_each(|(queue, error)| queue.error = *error);
        }
    }

    pub(crate) fn recover(&mut self, memory: &Memory) {
        if self.control.setup.is_none() {
            return;
        }
        self.locate(memory);
        for (index, queue) in self.transmit.iter_mut().enumerate() {
            queue.recover(memory, self.hot.transmit(index));
        }
        for (index, queue) in self.receive.iter_mut().enumerate() {
            queue.recover(memory, self.hot.receive(index));
        }
        if self.control.events != 0 {
            self.store_events(memory);
        }
        self.store_thresholds(memory);
        for index in 0..VECTORS {
            if self.is_in_use(index) {
                self.vectors.open_after_death(index);
                self.vectors.wake(index);
            }
        }
    }

    /// A driver rings when it has deferred as many frames as its queue's descriptor says.
    pub(crate) fn store_thresholds(&self, memory: &Memory) {
        let (Some(setup), Some(all)) = (&self.control.setup, &self.descriptors) else { return };
        let threshold = if self.doorbells { 0 } else { u32::MAX };
        for index in 0..self.transmit.len() {
            let at = index * queue::BYTES + queue::TX_THRESHOLD;
            all.store_u32(at, threshold);
            memory.mark_range(Address(setup.queues.wrapping_add(at as u64)), 4);
        }
    }

    fn is_in_use(&self, vector: usize) -> bool {
        let Some(setup) = &self.control.setup else { return false };
        usize::from(setup.event_vector) == vector
            || setup.transmit.iter().any(|queue| usize::from(queue.vector) == vector)
            || setup.receive.iter().any(|queue| usize::from(queue.vector) == vector)
    }
}
