//! Requests to the two disk front ends.

use arbitrary::{Result, Unstructured};
use request::{Blocks, Discard, Facts, Identity, Operation};
use virtio_blk::{Config, Limits, Mode, Parsed};
use virtio_scsi::control::Control;
use virtio_scsi::{Answer, Event, Events, Happening, Sizes};

use crate::posted::{posted, seed};

pub fn facts(input: &mut Unstructured<'_>) -> Result<Facts> {
    Ok(Facts {
        block_size: if input.arbitrary()? { 512 } else { 4096 },
        blocks: Blocks(u64::from(input.arbitrary::<u32>()?)),
        physical_exponent: input.int_in_range(0..=3)?,
        optimal: Blocks(input.int_in_range(0..=256)?),
        read_only: input.ratio(1, 8)?,
        rotational: input.arbitrary()?,
        write_cache: input.arbitrary()?,
        discard: if input.arbitrary()? {
            Some(Discard { granularity: Blocks(input.int_in_range(1..=16)?), zeroes: input.arbitrary()? })
        } else {
            None
        },
        atomic: None,
        identity: Identity { naa: [0x60; 16], serial: "fuzz".into(), name: "fuzz".into() },
    })
}

/// An operation's blocks lie within the volume; the number of its data bytes.
pub fn check_operation(operation: Operation, facts: &Facts) -> u64 {
    let (extent, bytes) = match operation {
        Operation::Read(extent) | Operation::Write { extent, .. } => (extent, extent.len_bytes()),
        Operation::WriteAtomic { extent, .. } => {
            assert!(facts.atomic.is_some_and(|atomic| atomic.covers(extent)), "{extent:?} is not atomic");
            (extent, extent.len_bytes())
        }
        Operation::WriteSame { extent, .. } => (extent, u64::from(facts.block_size)),
        Operation::Discard(extent) | Operation::WriteZeroes { extent, .. } => (extent, 0),
        Operation::Flush => return 0,
    };
    assert!(extent.first().0 + extent.count().0 <= facts.blocks.0);
    bytes
}

pub fn virtio_blk(data: &[u8]) {
    let _ = blk(&mut Unstructured::new(data));
}

fn blk(input: &mut Unstructured<'_>) -> Result<()> {
    let facts = facts(input)?;
    let mut config = Config::new(&facts, Limits { seg_max: 16, queues: 2 });
    if input.ratio(1, 8)? {
        config.write(input.int_in_range(0..=70)?, input.bytes(input.len().min(4))?);
        let mut space = [0; 80];
        config.read(input.int_in_range(0..=70)?, &mut space);
    }
    let mode = Mode::new(&facts, input.arbitrary()?, &config);
    let code = input.int_in_range(0..=2)?;
    let mut posted = posted(input)?;
    let memory = posted.memory.clone();
    let written = match virtio_blk::parse(&memory, &mut posted.chain, &facts, &mode) {
        Parsed::Answered(answered) => answered.written,
        Parsed::Work(mut work) => {
            let mut data = 0;
            for operation in work.by_ref() {
                data += check_operation(operation, &facts);
            }
            assert_eq!(request::total(work.data(&posted.chain)), data, "data and extents agree");
            work.finish(&memory, &posted.chain, code)
        }
    };
    assert!(u64::from(written) <= posted.room(), "{written} bytes written");
    posted.check_untouched();
    Ok(())
}

pub fn blk_seeds() -> Vec<Vec<u8>> {
    // A volume of 65,536 blocks with everything; no write to the configuration; the low 24 features.
    let start = [1, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0];
    let mut seeds = Vec::new();
    for (kind, readable, writable) in [
        (0u32, &[16u8][..], &[255u8, 1, 255, 1, 1][..]),
        (1, &[16, 255, 1, 255, 1], &[1]),
        (4, &[16], &[1]),
        (8, &[16], &[20, 1]),
        (11, &[16, 16], &[1]),
        (13, &[16, 16, 16], &[1]),
    ] {
        let mut memory = kind.to_le_bytes().to_vec();
        memory.extend([0; 12]);
        memory.extend([1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = start.to_vec();
        bytes.extend(seed(readable, writable, &memory));
        seeds.push(bytes);
    }
    seeds
}

pub fn virtio_scsi(data: &[u8]) {
    let _ = scsi(&mut Unstructured::new(data));
}

fn scsi(input: &mut Unstructured<'_>) -> Result<()> {
    let sizes = if input.arbitrary()? {
        Sizes::default()
    } else {
        Sizes::new(input.int_in_range(0..=400)?, input.int_in_range(0..=400)?)
    };
    let kind = input.int_in_range(0..=7)?;
    let (response, status, residual) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
    let sense_len = input.int_in_range(0..=20)?;
    let sense = input.bytes(sense_len)?;
    let (limit_in, limit_out) = (u64::from(input.arbitrary::<u16>()?), u64::from(input.arbitrary::<u16>()?));
    let happening = *input.choose(&[Happening::Added, Happening::Removed, Happening::Capacity])?;
    let mut posted = posted(input)?;
    let memory = posted.memory.clone();
    let written = match kind {
        0 => match virtio_scsi::control::parse(&memory, &posted.chain) {
            Ok(Control::TaskManagement(_)) => virtio_scsi::control::answer(&memory, &posted.chain, response),
            Ok(Control::Async(_)) => {
                virtio_scsi::control::answer_async(&memory, &posted.chain, residual, response)
            }
            Err(refused) => refused.written,
        },
        1 => {
            let mut events = Events::default();
            for lun in 0..u16::from(status) {
                events.post(Event { target: 0, lun, happening });
            }
            assert_eq!(Events::decode(&events.encode()).as_ref(), Some(&events));
            if events.is_waiting() {
                events.deliver(&memory, &posted.chain).unwrap_or_else(|refused| refused.written)
            } else {
                0
            }
        }
        _ => match virtio_scsi::parse(&memory, &mut posted.chain, sizes) {
            Err(refused) => refused.written,
            Ok(mut task) => {
                assert!(task.cdb.len() <= 32);
                let had = request::total(task.data_in(&posted.chain));
                if task.limit_data_in(&mut posted.chain, limit_in) {
                    assert_eq!(request::total(task.data_in(&posted.chain)), limit_in);
                } else {
                    assert!(had < limit_in);
                }
                if task.limit_data_out(&mut posted.chain, limit_out) {
                    assert_eq!(request::total(task.data_out(&posted.chain)), limit_out);
                }
                let given = memory.scatter(task.data_in(&posted.chain), &[0xaa; 64]) as u64;
                let answer = Answer { response, status, status_qualifier: 0, sense, residual };
                task.finish(&memory, &posted.chain, &answer, given)
            }
        },
    };
    assert!(u64::from(written) <= posted.room(), "{written} bytes written");
    posted.check_untouched();
    Ok(())
}

pub fn scsi_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in [0u8, 1, 2] {
        for (readable, writable) in
            [(&[51u8, 200][..], &[108u8][..]), (&[51], &[108, 200]), (&[24], &[1]), (&[16], &[16])]
        {
            let mut bytes = vec![1, kind, 0, 3, 0, 0, 0, 0, 0, 100, 0, 100, 0, 0];
            let memory =
                [&[1u8, 0, 0x40, 0, 0, 0, 0, 0][..], &[0; 11], &[0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0]].concat();
            bytes.extend(seed(readable, writable, &memory));
            seeds.push(bytes);
        }
    }
    seeds
}
