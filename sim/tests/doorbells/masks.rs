//! A device that tells of completions, and a driver that masks and opens its vector in memory.

use crate::explore::{Memory, Model, Stores};

/// Completions that the device has shown.
const SHOWN: u8 = 0;
/// 1: the driver wants no interrupt.
const MASK: u8 = 1;

const FRAMES: u8 = 2;

#[derive(Clone, Copy)]
pub struct Masks {
    /// A lane that sleeps looks again and again while a vector waits to be opened.
    pub watch: bool,
    /// The device masks the vector, and then interrupts.
    pub masked_before_told: bool,
    /// A successor opens the vector, since nobody knows whether what was masked was told.
    pub opened_after_death: bool,
    pub deaths: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// For an interrupt.
    Waits,
    Reads,
    Opens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Sleeps,
    /// A frame was shown: is the vector open?
    Judges,
    Masks,
    Tells,
    Resumes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    memory: Memory,
    driver: At,
    seen: u8,
    driver_stores: Stores,
    lane: Lane,
    lane_stores: Stores,
    pending: bool,
    /// It is to be masked, or told, still.
    left: bool,
    interrupt: bool,
    deaths: u8,
}

impl Masks {
    fn lane(&self, state: &State, into: &mut Vec<State>) {
        let shown = state.lane_stores.load(&state.memory, SHOWN);
        let open = state.lane_stores.load(&state.memory, MASK) == 0;
        let fire = |mut next: State| {
            next.pending = false;
            next.left = true;
            next.lane = if self.masked_before_told { Lane::Masks } else { Lane::Tells };
            next
        };
        let mut next = state.clone();
        match state.lane {
            Lane::Sleeps => {
                if shown < FRAMES {
                    let mut arrives = next.clone();
                    arrives.lane_stores.store(SHOWN, shown + 1);
                    arrives.pending = true;
                    arrives.lane = Lane::Judges;
                    into.push(arrives);
                }
                if self.watch && state.pending && open {
                    into.push(fire(next));
                }
            }
            Lane::Judges if open => into.push(fire(next)),
            Lane::Judges => {
                next.lane = Lane::Sleeps;
                into.push(next);
            }
            Lane::Masks => {
                next.lane_stores.store(MASK, 1);
                next.lane = if std::mem::take(&mut next.left) && self.masked_before_told {
                    Lane::Tells
                } else {
                    Lane::Sleeps
                };
                into.push(next);
            }
            // A system call, behind all stores.
            Lane::Tells if state.lane_stores.is_empty() => {
                next.interrupt = true;
                next.lane = if self.masked_before_told { Lane::Sleeps } else { Lane::Masks };
                next.left = false;
                into.push(next);
            }
            Lane::Tells => {}
            Lane::Resumes => {
                if self.opened_after_death {
                    next.lane_stores.store(MASK, 0);
                }
                next.pending = true;
                next.lane = Lane::Judges;
                into.push(next);
            }
        }
    }

    fn drive(&self, state: &State, into: &mut Vec<State>) {
        let mut next = state.clone();
        match state.driver {
            At::Waits if state.interrupt => {
                next.interrupt = false;
                next.driver = At::Reads;
            }
            At::Waits => return,
            At::Reads => {
                let shown = state.driver_stores.load(&state.memory, SHOWN);
                next.driver = if shown == state.seen { At::Opens } else { At::Reads };
                next.seen = shown;
            }
            // It does not look again.
            At::Opens => {
                next.driver_stores.store(MASK, 0);
                next.driver = At::Waits;
            }
        }
        into.push(next);
    }
}

impl Model for Masks {
    type State = State;

    fn first(&self) -> State {
        State {
            memory: [0, 0],
            driver: At::Waits,
            seen: 0,
            driver_stores: Stores::default(),
            lane: Lane::Sleeps,
            lane_stores: Stores::default(),
            pending: false,
            left: false,
            interrupt: false,
            deaths: 0,
        }
    }

    fn next(&self, state: &State) -> Vec<State> {
        let mut all = Vec::new();
        self.lane(state, &mut all);
        self.drive(state, &mut all);
        for ours in [false, true] {
            let mut arrives = state.clone();
            let stores = if ours { &mut arrives.lane_stores } else { &mut arrives.driver_stores };
            if stores.drain(&mut arrives.memory).is_some() {
                all.push(arrives);
            }
        }
        if state.deaths < self.deaths {
            let mut dies = state.clone();
            dies.deaths += 1;
            dies.pending = false;
            dies.left = false;
            dies.lane = Lane::Resumes;
            all.push(dies);
        }
        all
    }

    fn is_done(&self, state: &State) -> bool {
        state.seen == FRAMES
    }
}
