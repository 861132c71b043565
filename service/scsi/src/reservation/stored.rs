//! Whether stable storage may hold a table that is not the unit's.
//!
//! A change under APTPL is brought to stable storage before it is acknowledged. What ends APTPL is so
//! too, but until it is acknowledged nobody was promised that what was kept is kept no more: the table
//! before it may come back with the power. So a change behind it goes to stable storage as well, as
//! long as there may be a table there, or one on the way.

use alloc::vec::Vec;

use crate::task_set::TaskKey;

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    may_hold: bool,
    /// Tasks whose answers wait for stable storage.
    waiting: Vec<TaskKey>,
}

impl Stored {
    /// `may_hold`: nobody knows better, after a restart.
    pub fn new(may_hold: bool) -> Self {
        Self { may_hold, waiting: Vec::new() }
    }

    /// A change that no power loss would bring to light can be lost with the power all the same.
    pub fn may_hold(&self) -> bool {
        self.may_hold || !self.waiting.is_empty()
    }

    pub fn begin(&mut self, task: TaskKey) {
        self.waiting.push(task);
    }

    /// `keeps`: a power loss would leave something of the table as it is now.
    pub fn end(&mut self, task: TaskKey, durable: bool, keeps: bool) {
        let Some(at) = self.waiting.iter().position(|waiting| *waiting == task) else { return };
        self.waiting.swap_remove(at);
        // What others wait for is written later than this, and may be an older change than now.
        self.may_hold = keeps || !durable || !self.waiting.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_hold_something_until_nothing_was_written_and_nothing_is_on_its_way() {
        let [first, second] = [TaskKey(1), TaskKey(2)];
        let mut stored = Stored::new(false);
        assert!(!stored.may_hold());
        stored.begin(first);
        assert!(stored.may_hold());
        stored.begin(second);
        stored.end(first, true, false);
        assert!(stored.may_hold(), "the second is on its way");
        stored.end(second, true, false);
        assert!(!stored.may_hold());
        stored.begin(first);
        stored.end(first, false, false);
        assert!(stored.may_hold(), "it could not be written");
        stored.begin(first);
        stored.end(first, true, true);
        assert!(stored.may_hold(), "it holds a table");
        stored.end(second, true, false);
        assert!(stored.may_hold(), "this one waited for something else");
    }
}
