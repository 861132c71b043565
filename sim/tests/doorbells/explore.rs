//! All states that a model can come to, and whether one of them is a dead end.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

pub trait Model {
    type State: Clone + Debug + Eq + Hash;

    fn first(&self) -> Self::State;
    /// Every state that one step of anybody leads to.
    fn next(&self, state: &Self::State) -> Vec<Self::State>;
    /// Nothing is left to be done.
    fn is_done(&self, state: &Self::State) -> bool;
}

/// A state from which no way leads to the end; `None`: there is none.
pub fn lost<M: Model>(model: &M) -> Option<M::State> {
    let mut numbers = HashMap::from([(model.first(), 0)]);
    let mut states = vec![model.first()];
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut at = 0;
    while at < states.len() {
        for state in model.next(&states[at]) {
            let number = *numbers.entry(state.clone()).or_insert_with(|| {
                states.push(state);
                before.push(Vec::new());
                states.len() - 1
            });
            before[number].push(at);
        }
        at += 1;
    }
    let mut leads = vec![false; states.len()];
    let mut open: Vec<usize> = (0..states.len()).filter(|at| model.is_done(&states[*at])).collect();
    assert!(!open.is_empty(), "a model that never ends proves nothing");
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut leads[at], true) {
            open.extend(&before[at]);
        }
    }
    leads.iter().position(|leads| !leads).map(|at| states[at].clone())
}

/// Memory of a few numbers, and a processor's stores that are on their way to it.
pub type Memory = [u8; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    pub place: u8,
    pub value: u8,
    /// Somebody waits until it is seen.
    pub awaited: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stores(pub Vec<Store>);

impl Stores {
    pub fn store(&mut self, place: u8, value: u8) {
        self.0.push(Store { place, value, awaited: false });
    }

    /// A processor sees its own stores first.
    pub fn load(&self, memory: &Memory, place: u8) -> u8 {
        let own = self.0.iter().rev().find(|store| store.place == place);
        own.map_or(memory[usize::from(place)], |store| store.value)
    }

    /// A fence, a system call or an exit of the guest is over: nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest arrives.
    pub fn drain(&mut self, memory: &mut Memory) -> Option<Store> {
        if self.0.is_empty() {
            return None;
        }
        let store = self.0.remove(0);
        memory[usize::from(store.place)] = store.value;
        Some(store)
    }
}
