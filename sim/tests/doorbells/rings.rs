//! A driver that posts, and a lane that takes and falls asleep.

use crate::explore::{Memory, Model, Stores};

/// How many entries the driver has posted.
const POSTED: u8 = 0;
/// 1: the lane looks by itself, and the driver need not ring.
const POLLED: u8 = 1;

const ENTRIES: u8 = 3;

#[derive(Clone, Copy)]
pub enum Driver {
    /// It posts, and looks whether it has to ring; the look may come before the post is seen.
    Linux,
    /// With a fence between the two.
    Fenced,
    /// Its doorbell is a store that nobody is told of.
    Silent,
}

#[derive(Clone, Copy)]
pub enum Wake {
    /// The doorbell is a message. Before it sleeps the lane asks for it, has a fence, looks once more,
    /// and again when stores of that time have arrived.
    Rung { fence: bool, look: bool, second_look: bool },
    /// A timer; `None`: again and again.
    Watched { looks: Option<u8> },
}

#[derive(Clone, Copy)]
pub struct Rings {
    pub driver: Driver,
    pub wake: Wake,
    pub deaths: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Post,
    Fence,
    Judge,
    Ring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Awake,
    /// It has asked for doorbells.
    Asked,
    Look,
    /// A look at the clock is left.
    Asleep {
        second_look: bool,
        looks: Option<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    memory: Memory,
    driver: At,
    posted: u8,
    driver_stores: Stores,
    lane: Lane,
    lane_stores: Stores,
    /// In hot state: it outlives the worker.
    taken: u8,
    rung: bool,
    deaths: u8,
}

impl Rings {
    fn asleep(&self) -> Lane {
        match self.wake {
            Wake::Rung { second_look, .. } => Lane::Asleep { second_look, looks: Some(0) },
            Wake::Watched { looks } => Lane::Asleep { second_look: false, looks },
        }
    }

    fn drive(&self, state: &State, into: &mut Vec<State>) {
        let mut next = state.clone();
        match state.driver {
            At::Post if state.posted < ENTRIES => {
                next.posted += 1;
                next.driver_stores.store(POSTED, next.posted);
                next.driver = match self.driver {
                    Driver::Linux => At::Judge,
                    Driver::Fenced => At::Fence,
                    Driver::Silent => At::Post,
                };
            }
            At::Post => return,
            At::Fence if state.driver_stores.is_empty() => next.driver = At::Judge,
            At::Fence => return,
            At::Judge => {
                let polled = state.driver_stores.load(&state.memory, POLLED) == 1;
                next.driver = if polled { At::Post } else { At::Ring };
            }
            // The guest exits, behind all of its stores.
            At::Ring if state.driver_stores.is_empty() => {
                next.rung = true;
                next.driver = At::Post;
            }
            At::Ring => return,
        }
        into.push(next);
    }

    fn lane(&self, state: &State, into: &mut Vec<State>) {
        let posted = state.lane_stores.load(&state.memory, POSTED);
        let found = posted != state.taken;
        let awake = |mut next: State| {
            next.lane_stores.store(POLLED, 1);
            next.lane = Lane::Awake;
            next
        };
        let mut next = state.clone();
        match state.lane {
            Lane::Awake => {
                next.rung = false;
                if found {
                    next.taken = posted;
                } else {
                    match self.wake {
                        Wake::Rung { .. } => {
                            next.lane_stores.store(POLLED, 0);
                            next.lane = Lane::Asked;
                        }
                        Wake::Watched { .. } => next.lane = self.asleep(),
                    }
                }
                into.push(next);
            }
            Lane::Asked => {
                let Wake::Rung { fence, look, .. } = self.wake else { return };
                if !fence || state.lane_stores.is_empty() {
                    next.lane = if look { Lane::Look } else { self.asleep() };
                    into.push(next);
                }
            }
            Lane::Look if found => into.push(awake(next)),
            Lane::Look => {
                next.lane = self.asleep();
                into.push(next);
            }
            Lane::Asleep { second_look, looks } => {
                if state.rung {
                    into.push(awake(next.clone()));
                }
                // The stores that were on their way when doorbells were asked for have arrived.
                let arrived =
                    state.lane_stores.is_empty() && state.driver_stores.0.iter().all(|store| !store.awaited);
                if second_look && arrived {
                    next.lane = Lane::Asleep { second_look: false, looks };
                    into.push(if found { awake(next.clone()) } else { next.clone() });
                }
                if looks != Some(0) {
                    next.lane = Lane::Asleep { second_look, looks: looks.map(|looks| looks - 1) };
                    into.push(if found { awake(next) } else { next });
                }
            }
        }
    }
}

impl Model for Rings {
    type State = State;

    fn first(&self) -> State {
        State {
            memory: [0, 1],
            driver: At::Post,
            posted: 0,
            driver_stores: Stores::default(),
            lane: Lane::Awake,
            lane_stores: Stores::default(),
            taken: 0,
            rung: false,
            deaths: 0,
        }
    }

    fn next(&self, state: &State) -> Vec<State> {
        let mut all = Vec::new();
        self.drive(state, &mut all);
        self.lane(state, &mut all);
        let mut arrives = state.clone();
        if arrives.driver_stores.drain(&mut arrives.memory).is_some() {
            all.push(arrives);
        }
        let mut arrives = state.clone();
        if let Some(store) = arrives.lane_stores.drain(&mut arrives.memory) {
            if (store.place, store.value) == (POLLED, 0) {
                arrives.driver_stores.0.iter_mut().for_each(|store| store.awaited = true);
            }
            all.push(arrives);
        }
        if state.deaths < self.deaths {
            // What it stored arrives all the same. Its successor begins awake.
            let mut dies = state.clone();
            dies.deaths += 1;
            dies.lane_stores.store(POLLED, 1);
            dies.lane = Lane::Awake;
            all.push(dies);
        }
        all
    }

    fn is_done(&self, state: &State) -> bool {
        state.taken == ENTRIES && state.driver == At::Post
    }
}
