//! Commands of emulated SCSI controllers.

use std::sync::Arc;

use guest_memory::Memory;
use pvscsi::bits::host_status;
use pvscsi::{Answer, Command, Management, Place, Taken};
use request::total;
use scsi::{Attribute, Condition, Function, Nexus, Verdict};

use super::super::requests::{Origin, Work};
use super::super::scsi::{Arrival, Ended, ScsiTask};
use super::super::{BURST_MAX, Lane, OUTSTANDING_MAX};
use super::model::{Model, ScsiModel};
use super::slot::Slot;

impl Slot {
    /// As many commands are out as may be.
    pub(super) fn is_full(&self) -> bool {
        self.outstanding >= OUTSTANDING_MAX
    }

    pub(super) fn scsi(&mut self) -> Option<&mut ScsiModel> {
        match &mut self.model {
            Model::Scsi(model) => Some(model),
            Model::Nic(_) => None,
        }
    }
}

impl Lane {
    /// Orders and commands of one controller, a burst at most.
    pub(super) fn serve_adapter(&mut self, index: u32) {
        let mut command = std::mem::take(&mut self.emulated.command);
        for _ in 0..BURST_MAX {
            if self.journal_full || !self.next_of_adapter(index, &mut command) {
                break;
            }
        }
        self.emulated.command = command;
        self.emulated.stage(index);
    }

    /// `false`: there is nothing, or no room.
    fn next_of_adapter(&mut self, index: u32, command: &mut Command) -> bool {
        let Some(slot) = self.emulated.get(index) else { return false };
        if slot.is_full() {
            return false;
        }
        let memory = Arc::clone(&slot.memory);
        let Some(model) = slot.scsi() else { return false };
        if let Some(management) = model.adapter.take_task_management(&memory) {
            model.task_management += 1;
            // It is struck out for a successor after what the unit made of it: it may come again.
            self.manage_adapter(index, management, &memory);
            return true;
        }
        // What a dead worker had begun comes before all that is new.
        let mut taken = match model.resuming {
            true => model.adapter.next_resumed(&memory, command),
            false => Taken::Empty,
        };
        if taken == Taken::Empty {
            if std::mem::take(&mut model.resuming) {
                self.give_up_begun_emulated(index);
            }
            let Some(model) = self.emulated.get(index).and_then(Slot::scsi) else { return false };
            taken = model.adapter.next(&memory, command);
        }
        match taken {
            Taken::Empty => false,
            Taken::Ended => true,
            Taken::Command => {
                self.begin_command(index, command, memory);
                true
            }
        }
    }

    fn begin_command(&mut self, index: u32, command: &mut Command, memory: Arc<Memory>) {
        let Some(tag) = self.requests.take() else {
            // The table of the lane has room for 16,384; whoever comes then is told to come again.
            let answer = Answer::Ended {
                host_status: host_status::SUCCESS,
                scsi_status: scsi::status::BUSY,
                sense: &[],
                residual: command.offered,
            };
            if let Some(model) = self.emulated.get(index).and_then(Slot::scsi) {
                model.adapter.complete(&memory, command.id, &answer);
            }
            return;
        };
        let Some(slot) = self.emulated.get(index) else { return };
        slot.outstanding += 1;
        let epoch = slot.epoch;
        let Some(model) = slot.scsi() else { return };
        let request = self.requests.get(tag);
        request.origin = Origin::Adapter { slot: index, command: command.id, epoch };
        request.offered = command.offered;
        request.out_spans.clear();
        request.out_spans.extend_from_slice(command.data_out());
        request.in_spans.clear();
        request.in_spans.extend_from_slice(command.data_in());
        request.memory = Some(Arc::clone(&memory));
        let attribute = match command.attribute {
            pvscsi::Attribute::Simple => Attribute::Simple,
            pvscsi::Attribute::Ordered => Attribute::Ordered,
            pvscsi::Attribute::HeadOfQueue => Attribute::HeadOfQueue,
        };
        let target = command.place.map(|place| place.target());
        let Some(view) = target.and_then(|target| model.view(target)).cloned() else {
            self.end_adapter(tag, &Answer::failure(host_status::SELTIMEO));
            return;
        };
        match command.place {
            Some(Place::Unit { lun: 0, .. }) => {
                let Some((volume, nexus)) = view.find(0) else { return };
                request.volume = volume;
                request.work = Work::Scsi(ScsiTask::new(Arrival {
                    view: &view,
                    nexus,
                    id: command.id,
                    attribute,
                    cdb: &command.cdb,
                    resumed: command.resumed,
                    front: None,
                }));
                self.start_scsi(tag);
            }
            place => {
                let bare = scsi::bare_command(&command.cdb, &view.numbers);
                self.reply.clear();
                let verdict = if matches!(place, Some(Place::ReportLuns { .. })) {
                    scsi::well_known(&bare, &mut self.reply)
                } else {
                    model.no_unit += 1;
                    scsi::no_unit(&bare, &mut self.reply)
                };
                let ended = match verdict {
                    Verdict::Respond(response) => {
                        let data_in = memory.scatter(command.data_in(), &self.reply) as u64;
                        Ended::Response { response, data_in }
                    }
                    _ => Ended::Gone,
                };
                self.answer_adapter(tag, &ended);
            }
        }
    }

    /// The answer to a command that came from an emulated controller.
    pub(in super::super) fn answer_adapter(&mut self, tag: u32, ended: &Ended) {
        let (response, data_in) = match ended {
            Ended::Response { response, data_in } => (response, *data_in),
            Ended::Overrun { .. } => return self.end_adapter(tag, &Answer::failure(host_status::DATARUN)),
            Ended::Aborted { .. } => return self.end_adapter(tag, &Answer::Aborted),
            Ended::Gone => return self.end_adapter(tag, &Answer::failure(host_status::SELTIMEO)),
        };
        let request = self.requests.get(tag);
        debug_assert!(data_in <= total(&request.in_spans));
        let residual = request.offered.saturating_sub(data_in.saturating_add(response.data_out));
        let sense = response.sense_data();
        let answer = Answer::Ended {
            host_status: host_status::SUCCESS,
            scsi_status: response.status,
            sense: sense.as_deref().unwrap_or(&[]),
            residual,
        };
        self.end_adapter(tag, &answer);
    }

    fn end_adapter(&mut self, tag: u32, answer: &Answer<'_>) {
        let request = self.requests.get(tag);
        let origin = request.origin;
        // It holds its memory no longer, for which a message may be waiting.
        self.requests.give_back(tag);
        let Origin::Adapter { slot: index, command, epoch } = origin else { return };
        let wait = &self.wait;
        let Some(slot) = self.emulated.get(index) else { return };
        slot.outstanding -= 1;
        if slot.epoch == epoch {
            let memory = Arc::clone(&slot.memory);
            if let Some(model) = slot.scsi() {
                model.adapter.complete(&memory, command, answer);
            }
        }
        if slot.outstanding == 0 {
            slot.listen_again(wait);
        }
        let (held, idle) = (slot.held.is_some(), !slot.active);
        self.emulated.stage(index);
        if held || idle {
            // Looked at in the next turn: here a message may be in the middle of its own work.
            self.activate_emulated(index);
        }
    }

    fn manage_adapter(&mut self, index: u32, management: Management, memory: &Memory) {
        let origin_of = |id: u64| move |origin| matches!(origin, Origin::Adapter { slot, command, .. } if slot == index && command == id);
        let Some(model) = self.emulated.get(index).and_then(Slot::scsi) else { return };
        let all: Vec<(u32, Nexus)> = model.luns().values().map(|lun| (lun.volume, lun.nexus)).collect();
        let of = |target: u8| {
            model.luns().get(&u16::from(target)).map(|lun| (lun.volume, lun.nexus)).into_iter().collect()
        };
        let (units, function): (Vec<(u32, Nexus)>, Function) = match management {
            Management::Abort { id } => {
                let tag = self.requests.tags_of(origin_of(id)).next();
                let volume = tag.map(|tag| self.requests.get(tag).volume);
                let unit = all.into_iter().find(|(of, _)| Some(*of) == volume);
                (unit.into_iter().collect(), Function::AbortTask(id))
            }
            Management::ResetDevice { place } => match place {
                Place::Unit { target, lun: 0 } => (of(target), Function::UnitReset),
                _ => (Vec::new(), Function::UnitReset),
            },
            Management::ResetBus => (all, Function::UnitReset),
            Management::ResetAdapter => (all, Function::NexusReset),
            Management::Unplug { reply, .. } => {
                // Volumes go when their owner says so.
                model.adapter.answer_unplug(memory, reply, host_status::INVPARAM);
                return;
            }
        };
        // Those that it ends end by themselves; the adapter waits for them.
        for (volume, nexus) in units {
            let _ = self.manage(volume, nexus, function);
        }
        self.run_woken();
    }

    /// Nothing comes again that a dead worker had begun.
    pub(super) fn give_up_begun_emulated(&mut self, index: u32) {
        for (volume, nexus) in self.nexuses_of_emulated(index) {
            if let Some(logical) = self.volumes.unit(volume) {
                logical.unit.comes_no_more(nexus);
                self.unit_changed(volume);
            }
        }
    }

    pub(super) fn nexuses_of_emulated(&mut self, index: u32) -> Vec<(u32, Nexus)> {
        let model = self.emulated.get(index).and_then(Slot::scsi);
        model
            .map_or_else(Vec::new, |model| model.luns().values().map(|lun| (lun.volume, lun.nexus)).collect())
    }

    /// The machine behind a controller was powered on anew.
    pub(super) fn reset_emulated(&mut self, index: u32) {
        for (volume, nexus) in self.nexuses_of_emulated(index) {
            if let Some(logical) = self.volumes.unit(volume) {
                // What it still has at the disks ends into memory that is held for it.
                let _ = logical.unit.nexus_reset(nexus, Condition::POWER_ON);
                self.volumes.dirty(volume);
                if !self.wakers.contains(&volume) {
                    self.wakers.push(volume);
                }
            }
        }
    }

    /// What commands of an emulated controller to one of its volumes see.
    pub(in super::super) fn sees_emulated(&mut self, index: u32, volume: u32, nexus: Nexus) -> bool {
        self.nexuses_of_emulated(index).contains(&(volume, nexus))
    }
}
