//! Disk requests in a lane: from a ring through the front end and `service/scsi` to a disk, and back.

use std::sync::Arc;

use disk::Data;
use guest_memory::Memory;
use request::{Operation, Span, Status, total};
use scsi::{Command, Nexus, Plan, Response, Unit, Verdict};
use virtio_scsi::bits::response;
use virtio_scsi::control::{Control, Function, TaskManagement};
use virtio_scsi::{Answer, Place, Task};
use virtqueue::{Chain, Pop};

use super::device::{Device, ScsiDevice};
use super::requests::Request;
use super::slot::Slot;
use super::{BURST_MAX, Lane, OUTSTANDING_MAX};

/// The one I_T nexus of a controller in this release: a volume has one slot.
const NEXUS: Nexus = Nexus(0);

/// What a request is about, while a disk has it.
#[derive(Default)]
pub enum Work {
    #[default]
    None,
    Blk(virtio_blk::Work),
    Scsi(ScsiWork),
    /// A task management function waits for the tasks that it is about.
    TaskManagement {
        function: TaskManagement,
        waits_for: Vec<u32>,
    },
    /// Nobody's: a flush that a change of the cache mode needs.
    Flush,
}

/// A SCSI command at its volume.
pub struct ScsiWork {
    task: Task,
    lun: u16,
    plan: Plan,
    data_in: u64,
    data_out: u64,
}

/// A command's end, as far as the front end has to know.
struct Ended {
    response: Response,
    /// Bytes written into the data-in buffers.
    data_in: u64,
}

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
                    if !self.start_request(index, ring) {
                        break;
                    }
                }
            }
        }
    }

    /// Takes one request from a ring and starts it. `false`: there is none, or no room.
    fn start_request(&mut self, index: u32, ring: u32) -> bool {
        if let Some(Some(slot)) = self.slots.get(index as usize)
            && let Some(served) = slot.rings.get(ring as usize)
            && !served.is_served()
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
                return false;
            }
        }
        served.in_flight += 1;
        slot.outstanding += 1;
        request.slot = index;
        request.ring = ring;
        request.epoch = served.epoch;
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
            Device::Scsi(_) => self.start_scsi(index, ring, tag, memory),
            Device::Net(_) => unreachable!("a NIC's rings do not come here"),
        }
        true
    }

    fn start_scsi(&mut self, index: u32, ring: u32, tag: u32, memory: Arc<Memory>) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let Device::Scsi(device) = &mut slot.device else { return };
        let request = self.requests.get(tag);
        if virtio_scsi::queue_kind(ring as u16) == virtio_scsi::QueueKind::Control {
            self.control(index, tag, memory);
            return;
        }
        let mut task = match virtio_scsi::parse(&memory, &mut request.chain, device.config.sizes) {
            Ok(task) => task,
            Err(refused) => {
                device.faults[refused.fault as usize] += 1;
                self.end(tag, refused.written);
                return;
            }
        };
        let offered = task.data_bytes(&request.chain);
        self.reply.clear();
        let verdict = decide(device, &task, &memory, &request.chain, &mut self.reply);
        match verdict {
            None => {
                let written = task.finish(&memory, &request.chain, &Answer::failure(response::BAD_TARGET), 0);
                self.end(tag, written);
            }
            Some((Verdict::Respond(response), _)) => {
                let data_in = memory.scatter(task.data_in(&request.chain), &self.reply) as u64;
                let ended = Ended { response, data_in };
                let written = answer(&task, &memory, &request.chain, &ended, offered);
                self.end(tag, written);
            }
            // `decide` gives what was asked for.
            Some((Verdict::Parameters(_), _)) | Some((Verdict::Medium(_), None)) => {
                let written = task.finish(&memory, &request.chain, &Answer::failure(response::FAILURE), 0);
                self.end(tag, written);
            }
            Some((Verdict::Medium(plan), Some((number, volume)))) => {
                let (data_in, data_out) = (plan.data_in(), plan.data_out());
                let fits = task.limit_data_in(&mut request.chain, data_in)
                    && (data_out == 0 || task.limit_data_out(&mut request.chain, data_out));
                if !fits {
                    // More than the driver's buffers hold: nothing is done of it.
                    let written =
                        task.finish(&memory, &request.chain, &Answer::failure(response::OVERRUN), 0);
                    self.end(tag, written);
                    return;
                }
                request.residual = offered.saturating_sub(data_in).saturating_sub(data_out);
                request.volume = volume;
                request.memory = Some(memory);
                request.work = Work::Scsi(ScsiWork { task, lun: number, plan, data_in, data_out });
                self.advance(tag);
            }
        }
    }

    /// Gives a request's next operation to its disk; without one the request has ended well.
    fn advance(&mut self, tag: u32) {
        let now = self.now;
        let request = self.requests.get(tag);
        let Some(memory) = &request.memory else { return };
        let next = match &mut request.work {
            Work::Blk(work) => work.next(),
            Work::Scsi(work) => work.plan.next(),
            Work::None | Work::TaskManagement { .. } | Work::Flush => None,
        };
        let Some(operation) = next else {
            self.finish(tag, Status::Good);
            return;
        };
        let chain = &request.chain;
        let spans: &[Span] = match (&request.work, operation) {
            (Work::Blk(work), Operation::Read(_) | Operation::Write { .. }) => work.data(chain),
            (Work::Scsi(work), Operation::Read(_)) => work.task.data_in(chain),
            (
                Work::Scsi(work),
                Operation::Write { .. } | Operation::WriteAtomic { .. } | Operation::WriteSame { .. },
            ) => work.task.data_out(chain),
            _ => &[],
        };
        self.volumes.submit(now, request.volume, tag, operation, Data { memory, spans });
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
            let index = self.requests.get(tag).slot;
            self.blame(index);
            if status == Status::Good {
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
        let index = request.slot;
        let Some(memory) = request.memory.take() else { return };
        let written = match &request.work {
            Work::Blk(work) => work.finish(&memory, &request.chain, virtio_blk::status_of(status)),
            Work::Scsi(work) => {
                let unit = match self.slots.get_mut(index as usize) {
                    Some(Some(slot)) => unit_of(slot, work.lun),
                    _ => None,
                };
                match unit {
                    Some(unit) => {
                        let mut response = unit.finish(NEXUS, status);
                        response.data_out = work.data_out;
                        let data_in = if status == Status::Good { work.data_in } else { 0 };
                        let offered = request.residual + work.data_in + work.data_out;
                        answer(&work.task, &memory, &request.chain, &Ended { response, data_in }, offered)
                    }
                    // The LUN was taken away meanwhile.
                    None => {
                        work.task.finish(&memory, &request.chain, &Answer::failure(response::BAD_TARGET), 0)
                    }
                }
            }
            Work::Flush | Work::None | Work::TaskManagement { .. } => 0,
        };
        self.end(tag, written);
        self.end_task_management(tag);
    }

    /// The last step of a request: its element is staged, its record is free.
    fn end(&mut self, tag: u32, written: u32) {
        let request = self.requests.get(tag);
        request.work = Work::None;
        request.memory = None;
        let (index, ring) = (request.slot, request.ring);
        if let Some(Some(slot)) = self.slots.get_mut(index as usize)
            && ring != Request::NO_RING
        {
            slot.outstanding -= 1;
            let served = &mut slot.rings[ring as usize];
            // A ring that was stopped meanwhile does not hear of it.
            if served.epoch == request.epoch {
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
        let lun = match function.place {
            Some(Place::Unit { target: 0, lun }) if device.luns.contains_key(&lun) => lun,
            _ if function.function == Function::NexusReset => 0,
            _ => {
                let written = virtio_scsi::control::answer(&memory, &request.chain, response::INCORRECT_LUN);
                self.end(tag, written);
                return;
            }
        };
        let about = |task: &ScsiWork| match function.function {
            Function::AbortTask | Function::QueryTask => task.lun == lun && task.task.id == function.id,
            Function::NexusReset => true,
            _ => task.lun == lun,
        };
        let waits_for: Vec<u32> =
            self.requests.of_slot(index, |work| matches!(work, Work::Scsi(task) if about(task)));
        let code = match function.function {
            Function::QueryTask | Function::QueryTaskSet if !waits_for.is_empty() => {
                Some(response::FUNCTION_SUCCEEDED)
            }
            Function::QueryTask | Function::QueryTaskSet => Some(response::FUNCTION_COMPLETE),
            // No ACA condition ever stands: NACA is refused in CDBs, as the report of supported
            // functions says.
            Function::ClearAca => Some(response::FUNCTION_REJECTED),
            _ => None,
        };
        let request = self.requests.get(tag);
        if let Some(code) = code {
            let written = virtio_scsi::control::answer(&memory, &request.chain, code);
            self.end(tag, written);
            return;
        }
        request.memory = Some(memory);
        let done = waits_for.is_empty();
        request.work = Work::TaskManagement { function, waits_for };
        self.functions.push(tag);
        if done {
            self.end_task_management(u32::MAX);
        }
    }

    /// A task has ended: functions that waited for it wait no more.
    fn end_task_management(&mut self, ended: u32) {
        let mut at = 0;
        while at < self.functions.len() {
            let tag = self.functions[at];
            let request = self.requests.get(tag);
            let Work::TaskManagement { function, waits_for } = &mut request.work else {
                self.functions.swap_remove(at);
                continue;
            };
            waits_for.retain(|task| *task != ended);
            if !waits_for.is_empty() {
                at += 1;
                continue;
            }
            let function = *function;
            self.functions.swap_remove(at);
            if let Some(memory) = request.memory.take() {
                let index = request.slot;
                let written =
                    virtio_scsi::control::answer(&memory, &request.chain, response::FUNCTION_COMPLETE);
                self.reset_units(index, function);
                self.end(tag, written);
            }
        }
    }

    fn reset_units(&mut self, index: u32, function: TaskManagement) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        if let Device::Scsi(device) = &mut slot.device {
            device.dirty = true;
        }
        match (function.function, function.place) {
            (Function::UnitReset, Some(Place::Unit { lun, .. })) => {
                if let Some(unit) = unit_of(slot, lun) {
                    unit.reset(scsi::Reset::LogicalUnit);
                }
            }
            (Function::NexusReset, _) => {
                if let Device::Scsi(device) = &mut slot.device {
                    for lun in device.luns.values_mut() {
                        lun.unit.nexus_lost(NEXUS);
                    }
                }
            }
            _ => {}
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
        request.slot = u32::MAX;
        request.ring = Request::NO_RING;
        request.work = Work::Flush;
        let memory = Memory::empty();
        request.memory = Some(Arc::clone(&memory));
        self.volumes.submit(self.now, volume, tag, Operation::Flush, Data { memory: &memory, spans: &[] });
    }
}

impl Request {
    /// A request that came from no ring.
    pub const NO_RING: u32 = u32::MAX;
}

fn unit_of(slot: &mut Slot, lun: u16) -> Option<&mut Unit> {
    match &mut slot.device {
        Device::Scsi(device) => device.luns.get_mut(&lun).map(|lun| &mut lun.unit),
        _ => None,
    }
}

/// The SCSI decision, with the parameter list if it needs one. `None`: there is no such target.
fn decide(
    device: &mut ScsiDevice,
    task: &Task,
    memory: &Memory,
    chain: &Chain,
    reply: &mut Vec<u8>,
) -> Option<(Verdict, Option<(u16, u32)>)> {
    let command = Command { nexus: NEXUS, cdb: &task.cdb, luns: &device.numbers };
    let lun = match task.place {
        Place::Unit { target: 0, lun } => lun,
        Place::ReportLuns { target: 0 } => return Some((scsi::well_known(&command, reply), None)),
        _ => return None,
    };
    let Some(found) = device.luns.get_mut(&lun) else {
        device.no_unit += 1;
        return Some((scsi::no_unit(&command, reply), None));
    };
    let place = Some((lun, found.volume));
    let verdict = execute(&mut found.unit, task, &command, memory, chain, reply);
    device.dirty |= found.unit.take_dirty();
    Some((verdict, place))
}

/// The unit's decision; with the parameter list, if it asks for one.
fn execute(
    unit: &mut Unit,
    task: &Task,
    command: &Command<'_>,
    memory: &Memory,
    chain: &Chain,
    reply: &mut Vec<u8>,
) -> Verdict {
    match unit.execute(command, None, reply) {
        Verdict::Parameters(wanted) => {
            let mut parameters = vec![0; wanted.min(scsi::PARAMETERS_MAX_BYTES)];
            let given = memory.gather(task.data_out(chain), &mut parameters);
            parameters.truncate(given);
            unit.execute(command, Some(&parameters), reply)
        }
        verdict => verdict,
    }
}

fn answer(task: &Task, memory: &Memory, chain: &Chain, ended: &Ended, offered: u64) -> u32 {
    let sense = ended.response.sense_data();
    let used = ended.data_in.saturating_add(ended.response.data_out);
    let answer = Answer {
        response: response::OK,
        status: ended.response.status,
        status_qualifier: 0,
        sense: sense.as_deref().unwrap_or(&[]),
        residual: u32::try_from(offered.saturating_sub(used)).unwrap_or(u32::MAX),
    };
    debug_assert!(ended.data_in <= total(task.data_in(chain)));
    task.finish(memory, chain, &answer, ended.data_in)
}
