//! A configuration space in front of a NIC, and a lane that does as it says: bus mastering, power
//! states, kinds of interrupts.

use pci::{Bar, Bars, Change, Config, IrqMode, PowerState, Signals};

use super::{Input, Model, World, e1000::Family, pcnet::Vlance, vmxnet3::Vmware};

const HEADER: usize = 64;

struct Lane<M: Model> {
    world: World<M>,
    config: Config,
    rom_bytes: u32,
    /// The header and the links of the capabilities as they were.
    first: Vec<u8>,
}

fn all(config: &Config) -> Vec<u8> {
    let mut bytes = vec![0xee; 256];
    config.read(0, &mut bytes);
    bytes
}

/// Places of capabilities, by the chain that a driver walks.
fn chain(bytes: &[u8]) -> Vec<(u8, u8)> {
    let (mut at, mut found) = (bytes[0x34], Vec::new());
    while at != 0 {
        assert!(at >= 0x40 && at % 4 == 0 && found.len() < 48, "the chain ends");
        found.push((at, bytes[usize::from(at)]));
        at = bytes[usize::from(at) + 1];
    }
    found
}

impl<M: Model> Lane<M> {
    fn new(kind: u8) -> Self {
        let world = World::<M>::new(kind);
        let rom_bytes = u32::from(kind >> 4) * 5_000;
        let config = Config::new(world.nic.layout(), rom_bytes);
        Self { first: all(&config), config, rom_bytes, world }
    }

    /// What a lane does after a write to the configuration space.
    fn follow(&mut self, before: &Config, change: Change) {
        assert_eq!(change.any, self.config != *before);
        assert!(change.command || self.config.bus_master() == before.bus_master());
        assert!(change.interrupts || self.config.irq_mode() == before.irq_mode());
        if change.reset {
            assert_eq!((before.power_state(), self.config.power_state()), (PowerState::D3, PowerState::D0));
            assert!(!self.config.bus_master() && !self.config.memory_enabled(), "as after a reset");
            self.world.reset();
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.world.change_memory(if self.config.bus_master() { 0 } else { 2 });
        self.world.set_mode(self.config.irq_mode());
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let before = self.config.clone();
        match input.byte() % 8 {
            0 | 1 => {
                let [offset, len] = input.take();
                let bytes: [u8; 8] = input.take();
                let change = self.config.write(usize::from(offset) & !3, &bytes[..1 + usize::from(len % 8)]);
                self.follow(&before, change);
            }
            2 => {
                let offset = usize::from(input.half());
                let offset =
                    if offset & 0x8000 == 0 { offset & 0x1fff } else { usize::MAX - (offset & 0xff) };
                let bytes: [u8; 32] = input.take();
                let change = self.config.write(offset, &bytes[..usize::from(input.byte() % 33)]);
                self.follow(&before, change);
            }
            3 => {
                // A register of the header or of a capability, by name.
                let places = chain(&self.first);
                let [which, value, high, more] = input.take();
                let at = match which % 8 {
                    0 => 0x04,
                    1 => 0x10 + usize::from(more % 6) * 4,
                    2 => 0x30,
                    _ if places.is_empty() => 0x3c,
                    3 | 4 => usize::from(places[usize::from(which >> 3) % places.len()].0) + 2,
                    5 => usize::from(places[usize::from(which >> 3) % places.len()].0) + 4,
                    _ => {
                        usize::from(places[usize::from(which >> 3) % places.len()].0) + usize::from(more % 24)
                    }
                };
                let change = self.config.write(at, &[value, high]);
                self.follow(&before, change);
            }
            4 => {
                self.config.reset();
                assert_eq!(all(&self.config), self.first);
                self.world.reset();
                self.settle();
            }
            5 => {
                let level = self.world.nic.interrupts().level;
                self.config.set_intx_status(level);
                self.config.set_msi_pending(input.byte().into());
                self.config.set_pme_status();
            }
            6 => {
                // A successor, of an honest ledger or of another.
                let mut bytes = self.config.encode();
                let [at, value] = input.take();
                bytes[1 + usize::from(at)] ^= value;
                let layout = *self.world.nic.layout();
                let taken = Config::decode(&layout, self.rom_bytes, &bytes).expect("of its version");
                let again = Config::decode(&layout, self.rom_bytes, &taken.encode());
                assert_eq!(again.as_ref(), Some(&taken), "what was understood once is understood again");
                assert!(value != 0 || taken == self.config);
                self.config = taken;
                self.settle();
            }
            _ => self.world.act(input),
        }
        self.check();
    }

    fn check(&self) {
        let (now, layout) = (all(&self.config), self.world.nic.layout());
        // Who it is: identity, class, subsystem, interrupt pin, and how its capabilities are linked.
        for (from, to) in [(0, 4), (8, 0x0c), (0x0e, 0x0f), (0x28, 0x30), (0x34, 0x3c), (0x3d, HEADER)] {
            assert_eq!(now[from..to], self.first[from..to], "{from:#x} changed");
        }
        assert_eq!(chain(&now), chain(&self.first));
        for (index, bar) in layout.bars.iter().enumerate() {
            let at = 0x10 + 4 * index;
            let value = u32::from_le_bytes([now[at], now[at + 1], now[at + 2], now[at + 3]]);
            match bar {
                Bar::None => assert_eq!((value, self.config.bar_address(index)), (0, None)),
                Bar::Memory32 { bytes, prefetchable } => {
                    assert_eq!(value & (bytes - 1), u32::from(*prefetchable) << 3);
                }
                Bar::Io { bytes } => assert_eq!(value & (bytes - 1), 1),
            }
        }
        let config = &self.config;
        let awake = config.power_state() == PowerState::D0;
        assert!(awake || !(config.bus_master() || config.memory_enabled() || config.io_enabled()));
        assert!(awake || config.irq_mode() == IrqMode::Off);
        assert!(config.msi_enabled_vectors() <= layout.msi_vectors());
        assert!(config.irq_mode() != IrqMode::MsiX || layout.msix_vectors() > 0);
        assert!(config.irq_mode() != IrqMode::Msi || layout.msi_vectors() > 0);
    }
}

fn drive<M: Model>(kind: u8, input: &mut Input<'_>) {
    let mut lane = Lane::<M>::new(kind);
    lane.settle();
    while !input.0.is_empty() {
        lane.world.clock += 50_000;
        lane.act(input);
        lane.world.signals();
    }
    lane.world.finish();
}

pub fn pci_function(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    match kind % 4 {
        0 => drive::<Family>(kind >> 2, &mut input),
        1 => drive::<Vmware>(kind >> 2, &mut input),
        2 => drive::<Vlance>(kind >> 2, &mut input),
        _ => drive::<Family>(2, &mut input),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for kind in 0..16u8 {
        // Bus mastering and memory, BARs, then frames; interrupts one way after the other; D3 and back.
        let start = [kind, 3, 0, 7, 4, 0, 3, 1, 0xff, 0xff, 0, 3, 1, 0xff, 0xff, 1];
        let traffic = [7, 7, 0, 7, 15, 0, 100, 0, 7, 8, 0, 3, 7, 9, 4, 0, 0, 100, 0, 7, 10, 5, 0, 7, 11, 1];
        let mut modes = Vec::new();
        for which in 0..5u8 {
            modes.extend([3, 3 | which << 3, 1, 0x80, 0, 5, 7]);
            modes.extend(traffic);
        }
        let power = [3, 5, 3, 0, 0, 7, 10, 3, 5, 0, 0, 0, 3, 0, 7, 0, 0];
        all.push([&start[..], &traffic].concat());
        all.push([&start[..], &modes].concat());
        all.push([&start[..], &traffic, &power, &traffic, &[6, 0, 0, 6, 4, 4, 4]].concat());
    }
    [all, crate::kept(include_bytes!("../../kept/pci_function"))].concat()
}
