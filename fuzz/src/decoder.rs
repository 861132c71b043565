//! Any CDB, any parameter list, to a logical unit in any state.

use arbitrary::{Result, Unstructured};
use request::{Operation, Status};
use scsi::{Command, Nexus, Reset, State, Unit, Verdict};

use crate::storage::{check_operation, facts};

pub fn scsi_decoder(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let facts = facts(input)?;
    let mut unit = Unit::new(facts.clone());
    let luns = [0u16, 1, 300, 16_383];
    while !input.is_empty() {
        match input.int_in_range(0..=9)? {
            0 => unit.reset(Reset::LogicalUnit),
            1 => unit.luns_changed(),
            2 => {
                let state = unit.state();
                assert_eq!(State::decode(&state.encode()).as_ref(), Some(&state));
                unit = Unit::restore(facts.clone(), &state);
            }
            _ => {
                let len = *input.choose(&[6usize, 10, 12, 16, 32, 0, 3])?;
                let cdb = input.bytes(len.min(input.len()))?;
                let command = Command { nexus: Nexus(0), cdb, luns: &luns };
                let mut out = Vec::new();
                let mut verdict = match input.int_in_range(0..=9)? {
                    0 => scsi::no_unit(&command, &mut out),
                    1 => scsi::well_known(&command, &mut out),
                    _ => unit.execute(&command, None, &mut out),
                };
                if let Verdict::Parameters(wanted) = verdict {
                    assert!(wanted <= scsi::PARAMETERS_MAX_BYTES, "{wanted} bytes of parameters");
                    let given = input.bytes(wanted.min(input.len()))?;
                    verdict = unit.execute(&command, Some(given), &mut out);
                    assert!(!matches!(verdict, Verdict::Parameters(_)), "parameters are asked for once");
                }
                match verdict {
                    Verdict::Respond(response) => {
                        let _ = response.sense_data();
                    }
                    Verdict::Parameters(_) => unreachable!("no unit takes no parameters"),
                    Verdict::Medium(plan) => {
                        let (data_in, data_out) = (plan.data_in(), plan.data_out());
                        assert!(data_in <= scsi::TRANSFER_MAX_BYTES && data_out <= scsi::TRANSFER_MAX_BYTES);
                        for operation in plan {
                            let bytes = check_operation(operation, &facts);
                            match operation {
                                Operation::Read(_) => assert_eq!(bytes, data_in),
                                Operation::Write { .. }
                                | Operation::WriteAtomic { .. }
                                | Operation::WriteSame { .. } => {
                                    assert_eq!(bytes, data_out);
                                }
                                _ => {}
                            }
                        }
                        let status = *input.choose(&Status::ALL)?;
                        let response = unit.finish(Nexus(0), status);
                        assert_eq!(response.sense_data().is_none(), status == Status::Good);
                    }
                }
            }
        }
    }
    Ok(())
}

pub fn seeds() -> Vec<Vec<u8>> {
    // A volume of 65,536 blocks, then commands. The first of them meets the unit attention.
    let start = [1, 0, 0, 1, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1];
    let mut seeds = Vec::new();
    for row in scsi::rows() {
        let choice = match row.usage.len() {
            6 => 0,
            10 => 1,
            12 => 2,
            16 => 3,
            _ => 4,
        };
        for length in [0, 1, 24, 255] {
            let mut seed = start.to_vec();
            for _ in 0..3 {
                let mut cdb = vec![0; row.usage.len()];
                if let Some(at) = cdb.len().checked_sub(2) {
                    cdb[at] = length;
                }
                cdb[1] = row.action.unwrap_or(0);
                cdb[0] = row.opcode;
                seed.extend([5, choice]);
                seed.extend(cdb);
                // To be executed; then a status, or a look at the state, which changes nothing.
                seed.extend([5, 2, 2]);
            }
            seed.extend([0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8]);
            seeds.push(seed);
        }
    }
    seeds
}
