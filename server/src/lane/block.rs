//! Disk requests in a lane: from a ring through the front end and `service/scsi` to a disk, and back.

use std::sync::Arc;

use disk::Data;
use guest_memory::Memory;
use request::{Operation, Span, Status, total};
use scsi::{Attribute, Nexus, Verdict};
use virtio_scsi::bits::response;
use virtio_scsi::control::{Control, Function};
use virtio_scsi::{Answer, Place};
use virtqueue::{Chain, Pop};

use super::device::Device;
use super::requests::{Origin, Work};
use super::scsi::{Arrival, Ended, ScsiTask};
use super::slot::Slot;
use super::{BURST_MAX, Lane, OUTSTANDING_MAX};

impl Lane {
    /// Work of one ring, a burst at most.
    pub(super) fn serve_burst(&mut self, index: u32, ring: u32) {
        let Some(Some(slot)) = self.slots.get(index as usize) else { return };
        match &slot.device {
            Device::Net(device) if device.nic.control_queue().map(u32::from) == Some(ring) => {
                self.nic_control(index, ring)
            }
            Device::Net(_) => self.transmit(index, ring),
            Device::Scsi(_) if virtio_scsi::queue_kind(ring as u16) == virtio_scsi::QueueKind::Event => {
                self.deliver_events(index);
            }
            Device::Scsi(_) | Device::Blk(_) => {
                for _ in 0..BURST_MAX {
                    if self.journal_full || !self.start_request(index, ring) {
                        break;
                    }
                }
            }
        }
    }

    /// Takes one request from a ring and starts it. `false`: there is none, or no room.
    fn start_request(&mut self, index: u32, ring: u32) -> bool {
        if let Some(Some(slot)) = self.slots.get_mut(index as usize)
            && let Some(served) = slot.rings.get(ring as usize)
            && (!served.is_served() || slot.is_behind_resumed(ring))
        {
            return false;
        }
        let Some(tag) = self.requests.take() else { return false };
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else {
            self.requests.give_back(tag);
            return false;
        };
        let request = self.requests.get(tag);
        let served = &mut slot.rings[ring as usize];
        // What the queue gives first after a restart was begun by a worker that died.
        let resumed = served.queue.as_ref().is_some_and(|queue| queue.resubmits() > 0);
        let popped = match &mut served.queue {
            Some(queue) => queue.pop(&slot.memory, &mut request.chain),
            None => Pop::Empty,
        };
        match popped {
            Pop::Chain => {}
            Pop::Empty => {
                self.requests.give_back(tag);
                return false;
            }
            Pop::Broken(fault) => {
                slot.ring_broke(ring, fault);
                self.requests.give_back(tag);
                self.give_up_begun(index);
                return false;
            }
        }
        served.in_flight += 1;
        slot.outstanding += 1;
        request.origin = Origin::Ring { slot: index, ring, epoch: served.epoch };
        let memory = Arc::clone(&slot.memory);
        match &mut slot.device {
            Device::Blk(device) => {
                match virtio_blk::parse(&memory, &mut request.chain, &device.facts, &device.mode) {
                    virtio_blk::Parsed::Answered(answered) => {
                        if let Some(fault) = answered.fault {
                            device.faults[fault as usize] += 1;
                        }
                        self.end(tag, answered.written);
                    }
                    virtio_blk::Parsed::Work(work) => {
                        request.volume = device.volume;
                        request.memory = Some(memory);
                        request.work = Work::Blk(work);
                        self.advance(tag);
                    }
                }
            }
            Device::Scsi(_) => self.take_scsi(index, ring, tag, memory, resumed),
            Device::Net(_) => unreachable!("a NIC's rings do not come here"),
        }
        true
    }

    fn take_scsi(&mut self, index: u32, ring: u32, tag: u32, memory: Arc<Memory>, resumed: bool) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &mut slot.device else { return };
        let request = self.requests.get(tag);
        if virtio_scsi::queue_kind(ring as u16) == virtio_scsi::QueueKind::Control {
            self.control(index, tag, memory);
            return;
        }
        let task = match virtio_scsi::parse(&memory, &mut request.chain, device.config.sizes) {
            Ok(task) => task,
            Err(refused) => {
                device.faults[refused.fault as usize] += 1;
                self.end(tag, refused.written);
                return;
            }
        };
        let Some(view) = device.target(task.place.target()) else {
            let written = task.finish(&memory, &request.chain, &Answer::failure(response::BAD_TARGET), 0);
            self.end(tag, written);
            return;
        };
        let unit = match task.place {
            Place::Unit { lun, .. } => view.find(lun),
            Place::ReportLuns { .. } => None,
        };
        let Some((volume, nexus)) = unit else {
            let view = std::rc::Rc::clone(view);
            self.answer_without_unit(index, tag, &task, &memory, &view.numbers);
            return;
        };
        let attribute = match task.attribute {
            virtio_scsi::Attribute::Simple => Attribute::Simple,
            virtio_scsi::Attribute::Ordered => Attribute::Ordered,
            virtio_scsi::Attribute::HeadOfQueue => Attribute::HeadOfQueue,
            virtio_scsi::Attribute::Aca => Attribute::Aca,
        };
        let cdb = task.cdb;
        request.volume = volume;
        request.memory = Some(memory);
        request.work = Work::Scsi(ScsiTask::new(Arrival {
            view,
            nexus,
            id: task.id,
            attribute,
            cdb: &cdb,
            resumed,
            front: Some(task),
        }));
        self.start_scsi(tag);
    }

    /// A command to a LUN that is not there, or to the well known one.
    fn answer_without_unit(
        &mut self,
        index: u32,
        tag: u32,
        task: &virtio_scsi::Task,
        memory: &Memory,
        luns: &[u16],
    ) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &mut slot.device else { return };
        let command = scsi::bare_command(&task.cdb, luns);
        self.reply.clear();
        let verdict = match task.place {
            Place::ReportLuns { .. } => scsi::well_known(&command, &mut self.reply),
            Place::Unit { .. } => {
                device.no_unit += 1;
                scsi::no_unit(&command, &mut self.reply)
            }
        };
        let request = self.requests.get(tag);
        let written = match verdict {
            Verdict::Respond(response) => {
                let data_in = memory.scatter(task.data_in(&request.chain), &self.reply) as u64;
                let ended = Ended::Response { response, data_in };
                answer(task, memory, &request.chain, &ended)
            }
            _ => task.finish(memory, &request.chain, &Answer::failure(response::FAILURE), 0),
        };
        self.end(tag, written);
    }

    /// The answer to a command that came by a ring.
    pub(super) fn answer_ring(&mut self, tag: u32, ended: &Ended) {
        let request = self.requests.get(tag);
        let written = match (&request.work, request.memory.take()) {
            (Work::Scsi(task), Some(memory)) => match &task.front {
                Some(front) => answer(front, &memory, &request.chain, ended),
                None => 0,
            },
            _ => 0,
        };
        self.end(tag, written);
    }

    /// Gives a request's next operation to its disk; without one the request has ended well.
    pub(super) fn advance(&mut self, tag: u32) {
        let now = self.now;
        let request = self.requests.get(tag);
        let Some(memory) = &request.memory else { return };
        let memory = Arc::clone(memory);
        let next = match &mut request.work {
            Work::Blk(work) => work.next(),
            Work::Scsi(_) => self.next_of_plan(tag),
            Work::None | Work::Manage { .. } | Work::Flush | Work::Background(_) => None,
        };
        let Some(operation) = next else {
            self.finish(tag, Status::Good);
            return;
        };
        let request = self.requests.get(tag);
        let spans: &[Span] = match (&request.work, operation) {
            (Work::Blk(work), Operation::Read(_) | Operation::Write { .. }) => work.data(&request.chain),
            (Work::Scsi(_), operation) => Lane::plan_spans(request, operation),
            _ => &[],
        };
        self.volumes.submit(now, request.volume, tag, operation, Data { memory: &memory, spans });
    }

    /// Asks the disks, and ends what has ended.
    pub(super) fn end_requests(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        self.ring.reap(&mut clients);
        clients.clear();
        self.clients = clients;
        let mut ended = std::mem::take(&mut self.ended);
        self.volumes.poll(self.now, &mut ended);
        for (tag, status) in ended.drain(..) {
            if let Some(index) = self.requests.get(tag).slot() {
                self.blame(index);
            }
            if let Some(index) = self.requests.get(tag).emulated() {
                self.blame_emulated(index);
            }
            if self.is_machine(tag) {
                self.step_machine(tag, status);
            } else if status == Status::Good {
                self.advance(tag);
            } else {
                self.finish(tag, status);
            }
        }
        self.ended = ended;
        self.volumes.sweep();
    }

    /// A request ended at its disk: the answer goes into its buffers, the element into its ring.
    fn finish(&mut self, tag: u32, status: Status) {
        let request = self.requests.get(tag);
        let written = match &request.work {
            Work::Scsi(_) => {
                self.finish_plan(tag, status);
                return;
            }
            Work::Blk(work) => match request.memory.take() {
                Some(memory) => work.finish(&memory, &request.chain, virtio_blk::status_of(status)),
                None => return,
            },
            Work::Flush | Work::None | Work::Manage { .. } | Work::Background(_) => 0,
        };
        self.end(tag, written);
    }

    /// The last step of a request: its element is staged, its record is free.
    fn end(&mut self, tag: u32, written: u32) {
        let request = self.requests.get(tag);
        if let Origin::Ring { slot: index, ring, epoch } = request.origin
            && let Some(Some(slot)) = self.slots.get_mut(index as usize)
        {
            slot.outstanding -= 1;
            let served = &mut slot.rings[ring as usize];
            // A ring that was stopped meanwhile does not hear of it.
            if served.epoch == epoch {
                served.in_flight -= 1;
                if let Some(queue) = &mut served.queue {
                    queue.push(&slot.memory, request.chain.head, written);
                    Lane::stage(&mut self.staged, slot, ring);
                }
            }
            if slot.outstanding == 0 {
                slot.listen_again(&self.wait);
            }
            if slot.throttled && slot.outstanding <= OUTSTANDING_MAX / 2 {
                slot.throttled = false;
                self.look_at_rings(index);
            }
        }
        self.requests.give_back(tag);
    }

    /// Task management. A task at a disk cannot be called back, so a function that ends tasks is
    /// complete when they have ended by themselves: then, as SAM-5 7 wants it, none of them will
    /// touch the medium or the guest's memory any more.
    fn control(&mut self, index: u32, tag: u32, memory: Arc<Memory>) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &mut slot.device else { return };
        let request = self.requests.get(tag);
        let function = match virtio_scsi::control::parse(&memory, &request.chain) {
            Err(refused) => {
                device.faults[refused.fault as usize] += 1;
                self.end(tag, refused.written);
                return;
            }
            Ok(Control::Async(_)) => {
                let written = virtio_scsi::control::answer_async(&memory, &request.chain, 0, response::OK);
                self.end(tag, written);
                return;
            }
            Ok(Control::TaskManagement(function)) => function,
        };
        device.task_management += 1;
        let view = function.place.map(|place| device.target(place.target()));
        let units: Vec<(u32, Nexus)> = match (function.function, function.place) {
            (Function::NexusReset, _) => match view {
                Some(view) => view.into_iter().flat_map(|view| view.own()).collect(),
                // Whoever names no place means all that there is.
                None => device.luns().values().map(|lun| (lun.volume, lun.nexus)).collect(),
            },
            (_, Some(Place::Unit { lun, .. })) => {
                view.flatten().and_then(|view| view.find(lun)).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let asked = match function.function {
            Function::AbortTask => scsi::Function::AbortTask(function.id),
            Function::AbortTaskSet => scsi::Function::AbortTaskSet,
            Function::ClearAca => scsi::Function::ClearAca,
            Function::ClearTaskSet => scsi::Function::ClearTaskSet,
            Function::NexusReset => scsi::Function::NexusReset,
            Function::UnitReset => scsi::Function::UnitReset,
            Function::QueryTask => scsi::Function::QueryTask(function.id),
            Function::QueryTaskSet => scsi::Function::QueryTaskSet,
        };
        if units.is_empty() && function.function != Function::NexusReset {
            let request = self.requests.get(tag);
            let written = virtio_scsi::control::answer(&memory, &request.chain, response::INCORRECT_LUN);
            self.end(tag, written);
            return;
        }
        let mut waits_for = Vec::new();
        let mut code = None;
        for (volume, nexus) in units {
            match self.manage(volume, nexus, asked) {
                Some(scsi::Managed::Complete { waits_for: tasks }) => waits_for.extend(tasks),
                Some(scsi::Managed::Succeeded) => code = Some(response::FUNCTION_SUCCEEDED),
                Some(scsi::Managed::Rejected) => code = Some(response::FUNCTION_REJECTED),
                None => code = Some(response::INCORRECT_LUN),
            }
        }
        let request = self.requests.get(tag);
        if let Some(code) = code {
            let written = virtio_scsi::control::answer(&memory, &request.chain, code);
            self.end(tag, written);
            return;
        }
        request.memory = Some(memory);
        request.work = Work::Manage { waits_for };
        self.waiting.push(tag);
        self.settle(u32::MAX);
        self.run_woken();
    }

    /// The tasks that a function was about have ended.
    pub(super) fn answer_management(&mut self, tag: u32) {
        let request = self.requests.get(tag);
        if let Some(memory) = request.memory.take() {
            let written = virtio_scsi::control::answer(&memory, &request.chain, response::FUNCTION_COMPLETE);
            self.end(tag, written);
        }
    }

    /// Tells the driver what happened to its LUNs, as far as it has posted buffers.
    pub(super) fn deliver_events(&mut self, index: u32) {
        const EVENT_RING: u32 = 1;
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let slot: &mut Slot = slot;
        let Device::Scsi(device) = &mut slot.device else { return };
        let served = &mut slot.rings[EVENT_RING as usize];
        if !served.is_served() {
            return;
        }
        let Some(queue) = &mut served.queue else { return };
        let mut chain = Chain::new();
        let mut any = false;
        while device.events.is_waiting() {
            match queue.pop(&slot.memory, &mut chain) {
                Pop::Chain => {}
                Pop::Empty if queue.enable_kicks() => continue,
                Pop::Empty => break,
                Pop::Broken(fault) => {
                    slot.ring_broke(EVENT_RING, fault);
                    return;
                }
            }
            let written = match device.events.deliver(&slot.memory, &chain) {
                Ok(written) => written,
                Err(refused) => {
                    device.faults[refused.fault as usize] += 1;
                    refused.written
                }
            };
            queue.push(&slot.memory, chain.head, written);
            device.dirty = true;
            any = true;
        }
        if !device.events.is_waiting() {
            queue.disable_kicks();
        }
        if any {
            Lane::stage(&mut self.staged, slot, EVENT_RING);
        }
    }

    /// What lies in a volatile cache goes to stable storage, on nobody's behalf.
    pub(super) fn flush_volume(&mut self, volume: u32) {
        let Some(tag) = self.requests.take() else { return };
        let request = self.requests.get(tag);
        request.origin = Origin::Server;
        request.work = Work::Flush;
        let memory = Memory::empty();
        request.memory = Some(Arc::clone(&memory));
        self.volumes.submit(self.now, volume, tag, Operation::Flush, Data { memory: &memory, spans: &[] });
    }
}

/// The bytes that a driver finds. Returns the used length.
fn answer(task: &virtio_scsi::Task, memory: &Memory, chain: &Chain, ended: &Ended) -> u32 {
    let (response, data_in) = match ended {
        Ended::Response { response, data_in } => (response, *data_in),
        Ended::Overrun { .. } => return task.finish(memory, chain, &Answer::failure(response::OVERRUN), 0),
        // 5.6.6.1: drivers send a command again that a reset ended, and fail one that they aborted.
        Ended::Aborted { reset } => {
            let code = if *reset { response::RESET } else { response::ABORTED };
            return task.finish(memory, chain, &Answer::failure(code), 0);
        }
        Ended::Gone => return task.finish(memory, chain, &Answer::failure(response::BAD_TARGET), 0),
    };
    let sense = response.sense_data();
    let used = data_in.saturating_add(response.data_out);
    let answer = Answer {
        response: response::OK,
        status: response.status,
        status_qualifier: 0,
        sense: sense.as_deref().unwrap_or(&[]),
        residual: u32::try_from(task.offered().saturating_sub(used)).unwrap_or(u32::MAX),
    };
    debug_assert!(data_in <= total(task.data_in(chain)));
    task.finish(memory, chain, &answer, data_in)
}
