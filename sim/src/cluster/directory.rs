//! A folder whose host may lose its power at any step.
//!
//! What a file system promises here is what POSIX does and no more: a file's bytes are there after a
//! sync of the file, its name after a sync of the folder, and a rename is there or not. Of what was
//! not synced a power cut keeps anything: some of the changes of names and not others, whatever their
//! order was; of a file's bytes all, some, none, or zeroes of their number.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use guest_memory::Window;
use host::stable;

use crate::dice::Dice;

/// The folder; clones are the same one.
#[derive(Clone)]
pub struct Directory {
    state: Rc<RefCell<State>>,
    /// Each step stores into it, so that a worker dies there as at other stores.
    step: Window,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// As they are seen.
    names: BTreeMap<String, u64>,
    /// As they are on stable storage.
    synced: BTreeMap<String, u64>,
    /// Since then, in order; what stands in one list happens at once or not at all.
    changes: Vec<Vec<(String, Option<u64>)>>,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    synced: bool,
}

impl Directory {
    pub fn new() -> Self {
        Self { state: Rc::default(), step: Window::anonymous(8) }
    }

    fn step(&self) {
        self.step.store_u8(0, 1);
    }

    /// How many changes of names a power cut could still take.
    pub fn unsynced(&self) -> usize {
        self.state.borrow().changes.len()
    }

    pub fn cut_power(&self, dice: &mut Dice) {
        let mut state = self.state.borrow_mut();
        let mut names = state.synced.clone();
        for change in std::mem::take(&mut state.changes) {
            if dice.one_in(2) {
                continue;
            }
            for (name, file) in change {
                match file {
                    Some(file) => names.insert(name, file),
                    None => names.remove(&name),
                };
            }
        }
        for file in state.files.values_mut().filter(|file| !file.synced) {
            match dice.below(4) {
                0 => file.bytes.clear(),
                1 => file.bytes.truncate(dice.index(file.bytes.len() + 1)),
                2 => file.bytes.fill(0),
                _ => {}
            }
            file.synced = true;
        }
        state.names.clone_from(&names);
        state.synced = names;
    }

    fn change(&self, change: Vec<(String, Option<u64>)>) {
        let mut state = self.state.borrow_mut();
        for (name, file) in &change {
            match file {
                Some(file) => state.names.insert(name.clone(), *file),
                None => state.names.remove(name),
            };
        }
        state.changes.push(change);
    }
}

impl stable::Directory for Directory {
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.step();
        let found = self.state.borrow().names.get(name).copied();
        let file = found.unwrap_or_else(|| {
            let mut state = self.state.borrow_mut();
            state.next_file += 1;
            state.next_file
        });
        self.state.borrow_mut().files.insert(file, File::default());
        if found.is_none() {
            self.change(vec![(name.to_string(), Some(file))]);
        }
        for len in [bytes.len() / 2, bytes.len()] {
            self.step();
            let half = File { bytes: bytes[..len].to_vec(), synced: false };
            self.state.borrow_mut().files.insert(file, half);
        }
        self.step();
        self.state.borrow_mut().files.get_mut(&file).expect("just written").synced = true;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step();
        let file = self.state.borrow().names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        self.change(vec![(from.to_string(), None), (to.to_string(), Some(file))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step();
        if self.state.borrow().names.contains_key(name) {
            self.change(vec![(name.to_string(), None)]);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.step();
        let mut state = self.state.borrow_mut();
        state.synced = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn read(&self, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let state = self.state.borrow();
        let file = state.names.get(name).and_then(|file| state.files.get(file));
        Ok(file.map(|file| file.bytes[..file.bytes.len().min(bytes_max)].to_vec()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state.borrow().names.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_memory::crash;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A life: three states, one after the other; dies before the store `dies`. What was put, and what
    /// was under way.
    fn life(directory: &Directory, dies: u64) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let (mut put, mut under_way) = (None, None);
        crash::after(Some(dies));
        let died = catch_unwind(AssertUnwindSafe(|| {
            let store = stable::Store::within(directory.clone());
            store.sweep().unwrap();
            for number in 1..=3u8 {
                let state = vec![number; 40 + usize::from(number)];
                under_way = Some(state.clone());
                store.write("unit", &state).unwrap();
                put = under_way.take();
            }
        }));
        crash::after(None);
        assert!(died.is_ok() || dies < 40);
        (put, under_way)
    }

    /// At every step, with every fate that 200 seeds draw: the state that was acknowledged is there,
    /// or the one that was under way.
    #[test]
    fn a_state_that_was_written_survives_a_power_cut_at_any_step() {
        let mut seen = [0; 3];
        for dies in 0..=40 {
            for seed in 0..200 {
                let mut dice = Dice::new(seed);
                let directory = Directory::new();
                let (put, under_way) = life(&directory, dies);
                directory.cut_power(&mut dice);
                let store = stable::Store::within(directory.clone());
                store.sweep().unwrap();
                let found = store.read("unit").expect("never a damaged one");
                assert!(
                    found == put || (under_way.is_some() && found == under_way),
                    "died before store {dies}, seed {seed}: {put:?} was there, {under_way:?} under way, {found:?} found"
                );
                seen[match () {
                    () if under_way.is_none() => 0,
                    () if found == put => 1,
                    () => 2,
                }] += 1;
                assert!(store.names().unwrap().iter().all(|name| name == "unit"));
                // And once more, with what the sweep found: it is on stable storage.
                directory.cut_power(&mut dice);
                assert_eq!(store.read("unit").unwrap(), found);
            }
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }

    /// What the test above is worth: without its syncs the store would be caught.
    #[test]
    fn a_name_that_was_not_synced_may_be_gone() {
        use stable::Directory as _;
        let mut lost = 0;
        for seed in 0..64 {
            let directory = Directory::new();
            directory.write("new", b"bytes").unwrap();
            directory.rename("new", "name").unwrap();
            assert_eq!(directory.unsynced(), 2);
            directory.cut_power(&mut Dice::new(seed));
            lost += u32::from(directory.read("name", 9).unwrap().is_none());
        }
        assert!((10..54).contains(&lost), "{lost} of 64");
    }
}
