//! What a command asks of the medium.

use alloc::boxed::Box;
use alloc::vec::Vec;
use request::{Blocks, Extent, Operation};

use crate::task_set::Footprint;
use crate::unit::Settle;

/// The operations of one command and the bytes that it moves.
///
/// The common command is one operation and allocates nothing; an UNMAP of many descriptors and a
/// READ with FUA over a volatile cache have more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    next: Option<Operation>,
    /// In reverse.
    rest: Vec<Operation>,
    data_in: u64,
    data_out: u64,
    footprint: Footprint,
    then: Option<Box<Settle>>,
}

impl Plan {
    pub(crate) fn one(operation: Operation) -> Plan {
        let footprint = extent_of(&operation).map_or(Footprint::Nothing, Footprint::shared);
        Plan { next: Some(operation), rest: Vec::new(), data_in: 0, data_out: 0, footprint, then: None }
    }

    /// `None` for an empty list.
    pub(crate) fn list(mut operations: Vec<Operation>) -> Option<Plan> {
        let mut span: Option<(u64, u64)> = None;
        for extent in operations.iter().filter_map(extent_of) {
            let (from, to) = (extent.first().0, extent.first().0 + extent.count().0);
            span = Some(span.map_or((from, to), |(first, end)| (first.min(from), end.max(to))));
        }
        let footprint = span.map_or(Footprint::Nothing, |(first, end)| Footprint::Shared { first, end });
        operations.reverse();
        let next = Some(operations.pop()?);
        Some(Plan { next, rest: operations, data_in: 0, data_out: 0, footprint, then: None })
    }

    /// The blocks are the command's own while it runs.
    pub(crate) fn exclusive(mut self) -> Plan {
        if let Footprint::Shared { first, end } = self.footprint {
            self.footprint = Footprint::Exclusive { first, end };
        }
        self
    }

    /// When all operations ended well, there is still something to settle.
    pub(crate) fn then(self, settle: Settle) -> Plan {
        Plan { then: Some(Box::new(settle)), ..self }
    }

    /// What to settle when all operations ended well, as [`crate::Verdict::Settle`] has it; without it
    /// [`crate::Unit::finish`] ends the command. If one failed, that does in any case.
    pub fn take_settle(&mut self) -> Option<Settle> {
        self.then.take().map(|settle| *settle)
    }

    pub(crate) fn footprint(&self) -> Footprint {
        self.footprint
    }

    pub(crate) fn with_data_in(self, data_in: u64) -> Plan {
        Plan { data_in, ..self }
    }

    pub(crate) fn with_data_out(self, data_out: u64) -> Plan {
        Plan { data_out, ..self }
    }

    /// The same where an initiator offered less than [`Plan::data_out`], for transports that count the
    /// rest as residual overflow: of a write the whole blocks that came. `None`: it cannot be done in
    /// part.
    pub fn cut_data_out(mut self, offered: u64) -> Option<Plan> {
        let Some(Operation::Write { extent, fua }) = self.next.filter(|_| self.rest.is_empty()) else {
            return None;
        };
        let block_bytes = extent.len_bytes().checked_div(extent.count().0)?;
        let whole = Blocks(offered.checked_div(block_bytes)?.min(extent.count().0));
        let extent = extent.part(Blocks(0), whole)?;
        self.next = (!extent.is_empty()).then_some(Operation::Write { extent, fua });
        self.data_out = extent.len_bytes();
        Some(self)
    }

    /// Bytes that the command gives to the initiator; the one `Read` of the plan fills them.
    pub fn data_in(&self) -> u64 {
        self.data_in
    }

    /// Bytes that the command takes from the initiator, a parameter list included. A `Write` or
    /// `WriteSame` of the plan takes exactly these.
    pub fn data_out(&self) -> u64 {
        self.data_out
    }
}

fn extent_of(operation: &Operation) -> Option<Extent> {
    match operation {
        Operation::Read(extent) | Operation::Discard(extent) => Some(*extent),
        Operation::Write { extent, .. }
        | Operation::WriteAtomic { extent, .. }
        | Operation::WriteZeroes { extent, .. }
        | Operation::WriteSame { extent, .. } => Some(*extent),
        Operation::Flush => None,
    }
}

/// The operations, to be run one after the other until one fails.
impl Iterator for Plan {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        let operation = self.next.take()?;
        self.next = self.rest.pop();
        Some(operation)
    }
}
