//! The worker of a shared volume: one unit, its disk, and the thread that makes its state durable. It
//! may die at any store, those of that thread included.

use disk_memory::{DiskMemory, Medium};
use host::stable::Store;
use request::Instant;
use scsi::{Ending, Nexus, Peer, PortId, Profile, TransportId, Unit};

use super::Sabotage;
use super::directory::Directory;
use super::initiator::ABORTED_ITSELF;
use super::table::INITIATORS;
use super::wire::{Answered, DEPTH, Life, PLACES, Wire};
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::lun::{Arrival, Lun};

/// The file of the unit's state in the folder.
const NAME: &str = "unit";

/// What outlives a worker; the medium and the folder outlive the host's power too.
pub struct Host {
    pub wire: Wire,
    pub ledger: Ledger,
    pub directory: Directory,
    pub medium: Medium,
}

pub struct Target {
    lun: Lun,
    store: Store<Directory>,
    /// Of the initiators that have come, one after the other.
    nexuses: [Option<Nexus>; INITIATORS],
    sabotage: Option<Sabotage>,
}

fn peer(initiator: usize) -> Peer {
    let mut address = [0x30, 0, 0, 0, 0, 0, 0, 1];
    address[7] += initiator as u8;
    // Two of them come by one port.
    Peer { initiator: TransportId::sas(address), port: PortId(1 + initiator as u16 / 2) }
}

impl Target {
    /// A worker that goes on where another one stopped, or begins after the power came back.
    pub fn new(host: &Host, sabotage: Option<Sabotage>) -> Self {
        let store = Store::within(host.directory.clone());
        store.sweep().expect("a folder in memory has no errors");
        let facts = host.medium.facts();
        let left = host.ledger.load();
        let unit = match left.is_empty() {
            false => Unit::restore(facts, Profile::default(), &left),
            true => match store.read(NAME).expect("the state is whole") {
                Some(state) => Unit::recover(facts, Profile::default(), &state),
                None => Unit::new(facts, Profile::default()),
            },
        };
        let mut lun = Lun::new(unit, Box::new(DiskMemory::new(host.medium.clone())), host.ledger.clone());
        lun.skips_waiting = sabotage == Some(Sabotage::SkipWaiting);
        lun.forgets_journal = sabotage == Some(Sabotage::ForgetJournal);
        lun.save();
        Self { lun, store, nexuses: [None; INITIATORS], sabotage }
    }

    /// One turn: new commands, the disk's ends, durable states, and what has ended becomes visible.
    /// `landed` is called after each operation of the disk.
    pub fn turn(&mut self, host: &mut Host, now: Instant, dice: &mut Dice, landed: &mut dyn FnMut()) {
        for initiator in 0..INITIATORS {
            if self.nexuses[initiator].is_some() || dice.one_in(3) {
                continue;
            }
            self.nexuses[initiator] = self.lun.unit.attach(peer(initiator));
            if self.nexuses.iter().all(Option::is_some) {
                self.lun.unit.all_have_come();
            }
            // All that a dead worker had begun of it is begun again before anything new.
            for place in places(dice) {
                if place / DEPTH == initiator && host.wire.life(place) == Life::Noted {
                    self.begin(place, true, host, now);
                }
            }
        }
        for place in places(dice) {
            let is_there = self.nexuses[place / DEPTH].is_some();
            if is_there && host.wire.life(place) == Life::Posted && !dice.one_in(4) {
                if self.lun.unit.journal_is_full() {
                    self.publish(host);
                }
                host.wire.note(place);
                self.begin(place, false, host, now);
            }
        }
        if !dice.one_in(3) {
            self.lun.poll(now, landed);
        }
        if dice.one_in(2)
            && let Some((tag, state)) = self.lun.jobs.pop_front()
        {
            let durable = match self.sabotage {
                Some(Sabotage::SkipDurable) => true,
                _ => self.store.write(NAME, &state).is_ok(),
            };
            self.lun.made_durable(tag, durable, now);
        }
        if !dice.one_in(4) {
            self.publish(host);
        }
    }

    fn begin(&mut self, place: usize, resumed: bool, host: &Host, now: Instant) {
        let request = host.wire.request(place);
        let arrival = Arrival {
            nexus: self.nexuses[place / DEPTH].expect("it has come, and there is room for three"),
            id: request.id,
            cdb: request.cdb.clone(),
            resumed,
            memory: host.wire.memory.clone(),
            out: vec![host.wire.out_span(place)],
            into: vec![host.wire.in_span(place)],
        };
        self.lun.begin(place as u32, arrival, now);
    }

    /// The state is saved before the answers are visible, and once more when what they told is told.
    fn publish(&mut self, host: &mut Host) {
        let mut staged = Vec::new();
        for ended in std::mem::take(&mut self.lun.ended) {
            let (status, sense) = match ended.ending {
                Some(Ending::Respond(response)) => (response.status, response.sense),
                Some(Ending::Aborted { .. }) => (ABORTED_ITSELF, None),
                None => unreachable!("no initiator here offers too little room"),
            };
            let sense = sense.map(|sense| [sense.key as u8, sense.asc, sense.ascq]);
            let answered = Answered { status, sense, data_in: ended.data_in as u32 };
            staged.push((ended.tag as usize, answered));
        }
        let changed = self.lun.unit.take_dirty();
        if changed && self.sabotage != Some(Sabotage::ForgetState) {
            self.lun.save();
        }
        for (place, answered) in staged {
            host.wire.answer(place, answered);
        }
        if changed {
            self.lun.unit.seen();
            self.lun.save();
        }
    }
}

/// All places, in any order.
fn places(dice: &mut Dice) -> Vec<usize> {
    let mut places: Vec<usize> = (0..PLACES).collect();
    for at in (1..PLACES).rev() {
        places.swap(at, dice.index(at + 1));
    }
    places
}
