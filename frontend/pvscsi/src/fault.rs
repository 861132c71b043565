//! What a driver can do wrong, each under the name of its counter.

/// A rule that the driver broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A command that is not there, or is not served.
    UnknownCommand,
    /// SETUP_RINGS or SETUP_MSG_RING with counts or addresses that cannot be.
    BadRings,
    /// A descriptor of another command that cannot be.
    BadCommandData,
    /// More resets and aborts than can wait.
    TooManyOrders,
    /// The request producer is further ahead than the ring is long.
    RequestIndex,
    /// The completion consumer is ahead of the producer.
    CompletionIndex,
    /// The message consumer is ahead of the producer.
    MessageIndex,
    /// A request's bus, target or LUN names nothing that could be here.
    BadPlace,
    /// A CDB without bytes, or of more than 16.
    BadCdb,
    /// Data at an address that is no memory, or more of it than can be.
    BadData,
    /// A scatter-gather list that ends early, or nowhere.
    BadList,
    /// A sense buffer at an address that is no memory.
    BadSense,
}

impl Fault {
    pub const COUNT: usize = 12;

    pub const ALL: [Fault; Fault::COUNT] = [
        Fault::UnknownCommand,
        Fault::BadRings,
        Fault::BadCommandData,
        Fault::TooManyOrders,
        Fault::RequestIndex,
        Fault::CompletionIndex,
        Fault::MessageIndex,
        Fault::BadPlace,
        Fault::BadCdb,
        Fault::BadData,
        Fault::BadList,
        Fault::BadSense,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::UnknownCommand => "fault_unknown_command",
            Fault::BadRings => "fault_bad_rings",
            Fault::BadCommandData => "fault_bad_command_data",
            Fault::TooManyOrders => "fault_too_many_orders",
            Fault::RequestIndex => "fault_request_index",
            Fault::CompletionIndex => "fault_completion_index",
            Fault::MessageIndex => "fault_message_index",
            Fault::BadPlace => "fault_bad_place",
            Fault::BadCdb => "fault_bad_cdb",
            Fault::BadData => "fault_bad_data",
            Fault::BadList => "fault_bad_list",
            Fault::BadSense => "fault_bad_sense",
        }
    }
}

/// What happened at the adapter. Every command that was taken ends under one of `completed`,
/// `refused`, `aborted` and `ended_by_reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub taken: u64,
    pub resumed: u64,
    /// Completions that the driver can see, whatever they say.
    pub published: u64,
    pub completed: u64,
    pub refused: u64,
    pub aborted: u64,
    /// Commands that an adapter reset ended without a completion.
    pub ended_by_reset: u64,
    pub kicks: u64,
    pub interrupts: u64,
    /// Times that completions waited for the driver to make room.
    pub held_back: u64,
    pub messages: u64,
    /// Messages that nobody could take: no ring, or too many.
    pub messages_lost: u64,
    pub faults: [u64; Fault::COUNT],
}

impl Counters {
    pub(crate) fn fault(&mut self, fault: Fault) {
        if let Some(count) = self.faults.get_mut(fault as usize) {
            *count = count.wrapping_add(1);
        }
    }
}

pub(crate) fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
