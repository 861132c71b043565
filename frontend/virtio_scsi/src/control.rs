//! The control queue: task management functions and asynchronous notification (5.6.6.2).

use guest_memory::Memory;
use virtqueue::Chain;

use crate::bits::{control, response, size};
use crate::fault::{Fault, Refused};
use crate::place::Place;

/// Task management functions, by their subtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    AbortTask,
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    NexusReset,
    UnitReset,
    QueryTask,
    QueryTaskSet,
}

impl Function {
    pub fn decode(subtype: u32) -> Option<Function> {
        Some(match subtype {
            0 => Function::AbortTask,
            1 => Function::AbortTaskSet,
            2 => Function::ClearAca,
            3 => Function::ClearTaskSet,
            4 => Function::NexusReset,
            5 => Function::UnitReset,
            6 => Function::QueryTask,
            7 => Function::QueryTaskSet,
            _ => return None,
        })
    }
}

/// A task management request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagement {
    pub function: Function,
    /// `None`: a LUN that names nothing; answer it with INCORRECT LUN.
    pub place: Option<Place>,
    /// The task's id, for ABORT TASK and QUERY TASK.
    pub id: u64,
}

/// AN_QUERY and AN_SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncQuery {
    pub place: Option<Place>,
    /// Events that the driver asks for, one bit each.
    pub requested: u32,
    pub subscribe: bool,
}

/// A request on the control queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    TaskManagement(TaskManagement),
    Async(AsyncQuery),
}

/// Reads a control request. A [`TaskManagement`] is answered by [`answer`], an [`AsyncQuery`] by
/// [`answer_async`].
pub fn parse(memory: &Memory, chain: &Chain) -> Result<Control, Refused> {
    let refuse = |fault| Err(Refused { fault, written: 0 });
    let mut bytes = [0; size::TMF];
    let read = memory.gather(chain.readable(), &mut bytes);
    if read < 4 {
        return refuse(Fault::RequestTooShort);
    }
    let [t0, t1, t2, t3, rest @ ..] = bytes;
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        control::TMF => {
            if room(chain) == 0 {
                return refuse(Fault::ResponseTooShort);
            }
            if read < size::TMF {
                let written = answer(memory, chain, response::FAILURE);
                return Err(Refused { fault: Fault::RequestTooShort, written });
            }
            let [s0, s1, s2, s3, l0, l1, l2, l3, l4, l5, l6, l7, id @ ..] = rest;
            let Some(function) = Function::decode(u32::from_le_bytes([s0, s1, s2, s3])) else {
                let written = answer(memory, chain, response::FUNCTION_REJECTED);
                return Err(Refused { fault: Fault::UnknownFunction, written });
            };
            let place = Place::decode([l0, l1, l2, l3, l4, l5, l6, l7]);
            Ok(Control::TaskManagement(TaskManagement { function, place, id: u64::from_le_bytes(id) }))
        }
        kind @ (control::AN_QUERY | control::AN_SUBSCRIBE) => {
            if room(chain) < size::AN_RESPONSE as u64 {
                return refuse(Fault::ResponseTooShort);
            }
            if read < size::AN {
                let written = answer_async(memory, chain, 0, response::FAILURE);
                return Err(Refused { fault: Fault::RequestTooShort, written });
            }
            let [l0, l1, l2, l3, l4, l5, l6, l7, r0, r1, r2, r3, ..] = rest;
            Ok(Control::Async(AsyncQuery {
                place: Place::decode([l0, l1, l2, l3, l4, l5, l6, l7]),
                requested: u32::from_le_bytes([r0, r1, r2, r3]),
                subscribe: kind == control::AN_SUBSCRIBE,
            }))
        }
        _ => refuse(Fault::UnknownControlType),
    }
}

fn room(chain: &Chain) -> u64 {
    request::total(chain.writable())
}

/// Ends a task management function with one of [`crate::bits::response`]. Returns the used length.
pub fn answer(memory: &Memory, chain: &Chain, response: u8) -> u32 {
    memory.scatter(chain.writable(), &[response]) as u32
}

/// Ends an asynchronous notification request. `actual`: the events that are pending or subscribed
/// to; a disk has none, so that zero with OK is its answer to every question.
pub fn answer_async(memory: &Memory, chain: &Chain, actual: u32, response: u8) -> u32 {
    let [a0, a1, a2, a3] = actual.to_le_bytes();
    memory.scatter(chain.writable(), &[a0, a1, a2, a3, response]) as u32
}
