use alloc::vec::Vec;
use proptest::prelude::*;

use super::{NEXUS, OTHER, codes, command, facts, response, unit};
use crate::task_set::TaskSet;
use crate::{
    Abort, Attribute, Command, Ending, Footprint, Function, Managed, Nexus, Reset, Status, TASKS_MAX,
    TaskKey, Unit, Verdict,
};

use Attribute::{HeadOfQueue, Ordered, Simple};

const NONE: Footprint = Footprint::Nothing;

/// Enters a task and takes its blocks, as the unit does. The flag: it runs.
fn start(set: &mut TaskSet, tag: u32, attribute: Attribute, footprint: Footprint) -> (TaskKey, bool) {
    let key = set.enter(tag, NEXUS, u64::from(tag), attribute).unwrap();
    let runs = set.may_start(key) && set.claim(key, footprint);
    (key, runs)
}

fn woken(set: &mut TaskSet) -> Vec<u32> {
    core::iter::from_fn(|| set.woken()).collect()
}

fn shared(first: u64, end: u64) -> Footprint {
    Footprint::Shared { first, end }
}

fn exclusive(first: u64, end: u64) -> Footprint {
    Footprint::Exclusive { first, end }
}

#[test]
fn simple_tasks_run_side_by_side() {
    let mut set = TaskSet::default();
    for tag in 0..10 {
        assert!(start(&mut set, tag, Simple, shared(0, 8)).1);
    }
    assert_eq!(woken(&mut set), []);
}

#[test]
fn an_ordered_task_waits_for_the_older_and_holds_the_younger() {
    let mut set = TaskSet::default();
    let (first, _) = start(&mut set, 1, Simple, NONE);
    let (second, _) = start(&mut set, 2, Simple, NONE);
    let (ordered, runs) = start(&mut set, 3, Ordered, NONE);
    assert!(!runs);
    let (third, runs) = start(&mut set, 4, Simple, NONE);
    assert!(!runs);
    set.leave(second);
    assert_eq!(woken(&mut set), []);
    set.leave(first);
    assert_eq!(woken(&mut set), [3]);
    assert!(set.may_start(ordered) && set.claim(ordered, NONE));
    set.leave(ordered);
    assert_eq!(woken(&mut set), [4]);
    assert!(set.may_start(third));
}

#[test]
fn head_of_queue_runs_at_once_and_before_what_comes_later() {
    let mut set = TaskSet::default();
    let (running, _) = start(&mut set, 1, Simple, NONE);
    let (ordered, _) = start(&mut set, 2, Ordered, NONE);
    let (head, runs) = start(&mut set, 3, HeadOfQueue, NONE);
    assert!(runs);
    assert!(!start(&mut set, 4, Simple, NONE).1);
    // What runs already is not called back, even if it is executed in two steps.
    assert!(set.may_start(running));
    set.leave(running);
    assert_eq!(woken(&mut set), []);
    set.leave(head);
    assert_eq!(woken(&mut set), [2]);
    set.leave(ordered);
    assert_eq!(woken(&mut set), [4]);
}

#[test]
fn exclusive_blocks_are_nobody_elses() {
    let mut set = TaskSet::default();
    let (alone, runs) = start(&mut set, 1, Simple, exclusive(8, 16));
    assert!(runs);
    for (tag, footprint, free) in [
        (2, shared(0, 8), true),
        (3, shared(16, 24), true),
        (4, exclusive(20, 24), false), // task 3 has some of them
        (5, shared(15, 16), false),
        (6, exclusive(0, 9), false),
        (7, Footprint::Nothing, true),
    ] {
        assert_eq!(start(&mut set, tag, Simple, footprint).1, free, "{tag}");
    }
    // Behind task 6, which waits: it is not to starve.
    assert!(!start(&mut set, 8, Simple, shared(0, 1)).1);
    set.leave(alone);
    // Task 6 still waits for task 2.
    assert_eq!(woken(&mut set), [5]);
}

#[test]
fn head_of_queue_does_not_wait_for_those_that_wait_for_it() {
    let mut set = TaskSet::default();
    let (first, _) = start(&mut set, 1, Simple, exclusive(0, 8));
    assert!(!start(&mut set, 2, Simple, exclusive(0, 16)).1);
    assert!(start(&mut set, 3, HeadOfQueue, shared(8, 12)).1);
    let (fourth, runs) = start(&mut set, 4, HeadOfQueue, shared(4, 5));
    assert!(!runs);
    set.leave(first);
    assert_eq!(woken(&mut set), [4]);
    assert!(set.may_start(fourth));
}

#[test]
fn the_aborted_are_woken_if_they_waited_and_waited_for_if_they_run() {
    let mut set = TaskSet::default();
    let (running, _) = start(&mut set, 1, Simple, exclusive(0, 8));
    let (held, _) = start(&mut set, 2, Simple, shared(0, 8));
    assert_eq!(set.abort(NEXUS, |_, id| id == 2, None), []);
    assert_eq!(woken(&mut set), [2]);
    assert_eq!(set.aborted(held), Some(Abort::Own));
    assert_eq!(set.leave(held), Some(Abort::Own));
    assert_eq!(set.abort(OTHER, |_, _| true, None), [1]);
    // The first abort's reason stays.
    assert_eq!(set.abort(NEXUS, |_, _| true, None), [1]);
    assert_eq!(set.leave(running), Some(Abort::Other));
    assert_eq!(set.len(), 0);
    assert_eq!(set.leave(running), None);
}

/// A READ(10) of one block.
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

fn begin(unit: &mut Unit, nexus: Nexus, tag: u32, attribute: Attribute) -> crate::Outcome {
    let read = Command { tag, id: u64::from(tag), attribute, ..command(nexus, &READ) };
    unit.execute(&read, None, &mut Vec::new())
}

/// Status and sense of a command that ended at once.
fn status_of(outcome: crate::Outcome) -> (u8, Option<crate::Sense>) {
    match outcome.verdict {
        Verdict::Respond(response) => (response.status, response.sense),
        other => panic!("{other:?}"),
    }
}

/// Begins tasks until the unit takes no more of this nexus.
fn fill(unit: &mut Unit, nexus: Nexus) -> Vec<TaskKey> {
    let mut tasks = Vec::new();
    loop {
        let outcome = begin(unit, nexus, nexus.0 << 16 | tasks.len() as u32, Simple);
        match outcome.verdict {
            Verdict::Medium(_) => tasks.push(outcome.task),
            // SAM-5: TASK SET FULL to who has tasks in it.
            _ => {
                assert_eq!(status_of(outcome), (0x28, None));
                return tasks;
            }
        }
    }
}

#[test]
fn nobody_takes_the_whole_task_set() {
    let mut unit = unit(facts());
    let tasks = fill(&mut unit, NEXUS);
    assert_eq!(tasks.len(), TASKS_MAX / 2);
    // As many as are left; each of many who want all of it has its part, and a place stays.
    assert_eq!(fill(&mut unit, OTHER).len(), TASKS_MAX / 4);
    for number in 2..12 {
        assert_eq!(unit.attach(super::peer(number)), Some(Nexus(u32::from(number))));
        assert_eq!(status_of(begin(&mut unit, Nexus(u32::from(number)), 9999, Simple)).0, 0x02);
        assert!(!fill(&mut unit, Nexus(u32::from(number))).is_empty());
    }
    assert!(unit.tasks() < TASKS_MAX);
    // What has ended makes room, for others first.
    for task in &tasks[..256] {
        assert!(matches!(unit.finish(*task, Status::Good), Ending::Respond(good) if good.status == 0));
    }
    assert_eq!(status_of(begin(&mut unit, NEXUS, 9999, Simple)), (0x28, None));
    assert!(matches!(begin(&mut unit, Nexus(11), 9999, Simple).verdict, Verdict::Medium(_)));
    // Tasks of a nexus that is gone are no part of its successor's.
    let left = unit.detach(NEXUS).len();
    assert_eq!(left, tasks.len() - 256);
    assert_eq!(unit.attach(super::peer(77)), Some(NEXUS));
    assert_eq!(status_of(begin(&mut unit, NEXUS, 9999, Simple)).0, 0x02);
    assert!(matches!(begin(&mut unit, NEXUS, 9999, Simple).verdict, Verdict::Medium(_)));
}

#[test]
fn a_full_task_set_says_so() {
    let mut set = TaskSet::default();
    let keys: Vec<_> = (0..TASKS_MAX as u32)
        .map(|tag| set.enter_again(tag, Nexus(tag % 128), u64::from(tag), Simple).unwrap())
        .collect();
    assert_eq!(set.len(), 4096);
    assert_eq!(set.enter_again(9999, NEXUS, 0, Simple), None);
    assert_eq!(set.enter(9999, NEXUS, 0, Simple), None);
    set.leave(keys[17]);
    assert!(set.enter_again(9999, NEXUS, 0, Simple).is_some());
}

#[test]
fn what_was_there_before_a_restart_comes_in_whatever_order() {
    let mut unit = unit(facts());
    let alone = TASKS_MAX as u32 / 2;
    for tag in 0..alone {
        let read = Command { tag, id: u64::from(tag), resumed: true, ..command(OTHER, &READ) };
        let outcome = unit.execute(&read, None, &mut Vec::new());
        assert!(matches!(outcome.verdict, Verdict::Medium(_)));
    }
    for tag in alone..alone + 1500 {
        let read = Command { tag, id: u64::from(tag), resumed: true, ..command(NEXUS, &READ) };
        let outcome = unit.execute(&read, None, &mut Vec::new());
        assert!(matches!(outcome.verdict, Verdict::Medium(_)), "{tag}");
    }
    assert_eq!(status_of(begin(&mut unit, NEXUS, 9999, Simple)), (0x28, None));
}

#[test]
fn a_task_that_waits_costs_a_comparison_and_not_one_with_everybody() {
    let held_max = 2000;
    for (first, rest) in [(HeadOfQueue, shared(0, 8)), (Simple, exclusive(0, 8)), (Ordered, NONE)] {
        let mut set = TaskSet::default();
        let alone = if first == Simple { exclusive(0, 8) } else { NONE };
        let (mut head, runs) = start(&mut set, 0, first, alone);
        assert!(runs);
        for tag in 1..=held_max {
            assert!(!start(&mut set, tag, Simple, rest).1, "{first:?}");
        }
        // Its initiator renews what the others wait for, again and again.
        for tag in held_max + 1..held_max + 100 {
            let before = set.compared.get();
            let next = match first {
                HeadOfQueue => Some(start(&mut set, tag, HeadOfQueue, alone).0),
                _ => None,
            };
            set.leave(head);
            let cost = set.compared.get() - before;
            assert!(cost <= 8 * u64::from(held_max), "{first:?}: {cost} comparisons at an end");
            match (next, set.woken()) {
                (Some(next), None) => head = next,
                // One after the other, or all at once.
                (None, Some(tag)) if first == Simple => {
                    head = TaskKey(tag);
                    assert!(set.may_start(head) && set.claim(head, rest));
                }
                (None, Some(1)) => break,
                other => panic!("{first:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_aca_task_is_refused() {
    let mut unit = unit(facts());
    let refused = begin(&mut unit, NEXUS, 1, Attribute::Aca);
    assert_eq!(super::refused(refused.verdict), (0x5, 0x49, 0x00));
    assert_eq!(unit.tasks(), 0);
}

#[test]
fn task_management_ends_each_task_in_its_way() {
    let mut unit = unit(facts());
    let mine = begin(&mut unit, NEXUS, 1, Simple);
    let theirs = begin(&mut unit, OTHER, 2, Simple);
    let held = begin(&mut unit, OTHER, 3, Ordered);
    assert!(matches!(held.verdict, Verdict::Wait));
    assert_eq!(unit.manage(NEXUS, Function::QueryTask(1)), Managed::Succeeded);
    assert_eq!(unit.manage(NEXUS, Function::QueryTask(2)), Managed::Complete { waits_for: Vec::new() });
    assert_eq!(unit.manage(OTHER, Function::QueryTaskSet), Managed::Succeeded);
    assert_eq!(unit.manage(NEXUS, Function::ClearAca), Managed::Rejected);
    // Another nexus's id names nothing.
    assert_eq!(unit.manage(NEXUS, Function::AbortTask(2)), Managed::Complete { waits_for: Vec::new() });
    assert_eq!(unit.manage(NEXUS, Function::ClearTaskSet), Managed::Complete { waits_for: [1, 2].into() });
    assert_eq!(unit.woken(), Some(3));
    let again = Command { tag: 3, id: 3, task: Some(held.task), ..command(OTHER, &READ) };
    let ended = unit.execute(&again, None, &mut Vec::new());
    assert!(matches!(ended.verdict, Verdict::Aborted(Abort::Other)));
    assert_eq!(unit.finish(mine.task, Status::Good), Ending::Aborted { reset: false });
    let Ending::Respond(aborted) = unit.finish(theirs.task, Status::Good) else { panic!() };
    assert_eq!((aborted.status, aborted.sense), (0x40, None));
    assert_eq!(unit.tasks(), 0);
    // TAS is one: no unit attention besides.
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x00);
}

/// Virtio tells its driver which it was, and Linux sends again what a reset ended, and fails what it
/// aborted itself.
#[test]
fn a_task_that_a_reset_ended_is_told_apart() {
    for function in [Function::UnitReset, Function::TargetReset, Function::NexusReset] {
        let mut unit = unit(facts());
        let running = begin(&mut unit, NEXUS, 1, Ordered);
        let held = begin(&mut unit, NEXUS, 2, Simple);
        assert!(matches!(held.verdict, Verdict::Wait));
        assert_eq!(unit.manage(NEXUS, function), Managed::Complete { waits_for: [1].into() });
        assert_eq!(unit.woken(), Some(2));
        let again = Command { tag: 2, id: 2, task: Some(held.task), ..command(NEXUS, &READ) };
        let ended = unit.execute(&again, None, &mut Vec::new());
        assert!(matches!(ended.verdict, Verdict::Aborted(Abort::Reset)), "{function:?}");
        assert_eq!(unit.finish(running.task, Status::Good), Ending::Aborted { reset: true });
    }
}

#[test]
fn resets_abort_and_tell() {
    let mut unit = unit(facts());
    let _ = begin(&mut unit, NEXUS, 1, Simple);
    let _ = begin(&mut unit, OTHER, 2, Simple);
    assert_eq!(unit.manage(NEXUS, Function::NexusReset), Managed::Complete { waits_for: [1].into() });
    assert_eq!(unit.manage(OTHER, Function::QueryAttention), Managed::Complete { waits_for: Vec::new() });
    assert_eq!(unit.manage(NEXUS, Function::QueryAttention), Managed::Succeeded);
    assert_eq!(codes(&response(&mut unit, NEXUS, &[0; 6])), (0x6, 0x29, 0x07));
    assert_eq!(unit.manage(OTHER, Function::UnitReset), Managed::Complete { waits_for: [1, 2].into() });
    for nexus in [NEXUS, OTHER] {
        assert_eq!(codes(&response(&mut unit, nexus, &[0; 6])), (0x6, 0x29, 0x03));
    }
    let _ = unit.reset(Reset::PowerOn, None);
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x29, 0x00));
    assert_eq!(unit.detach(OTHER), [2]);
}

/// What the plain rules say of one task.
#[derive(Clone, Debug)]
struct Known {
    key: TaskKey,
    tag: u32,
    attribute: Attribute,
    footprint: Footprint,
    /// It has been let through by its attribute.
    enabled: bool,
    runs: bool,
    aborted: bool,
}

fn bounds(footprint: Footprint) -> (u64, u64, bool) {
    match footprint {
        Footprint::Nothing => (0, 0, false),
        Footprint::Shared { first, end } => (first, end, false),
        Footprint::Exclusive { first, end } => (first, end, true),
    }
}

/// Block by block.
fn clash(one: Footprint, other: Footprint) -> bool {
    let ((from, to, alone), (first, end, also)) = (bounds(one), bounds(other));
    (alone || also) && (from..to).any(|block| first <= block && block < end)
}

/// Whether the tasks at `at`, by age, has nobody in front of it.
fn is_in_turn(tasks: &[Known], at: usize) -> bool {
    let others = || tasks.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, task)| task);
    match tasks[at].attribute {
        HeadOfQueue => true,
        _ if others().any(|task| task.attribute == HeadOfQueue) => false,
        Ordered => at == 0,
        _ => tasks[..at].iter().all(|task| task.attribute == Simple),
    }
}

fn has_room(tasks: &[Known], at: usize) -> bool {
    tasks.iter().enumerate().all(|(other, task)| {
        let in_front = task.runs || (task.enabled && other < at && tasks[at].attribute != HeadOfQueue);
        other == at || !in_front || !clash(task.footprint, tasks[at].footprint)
    })
}

/// Runs what the set has woken, as the server would.
fn drain(set: &mut TaskSet, tasks: &mut Vec<Known>) {
    while let Some(tag) = set.woken() {
        let at = tasks.iter().position(|task| task.tag == tag).expect("only tasks that are there are woken");
        assert!(!tasks[at].runs, "{tag} was woken twice");
        if tasks[at].aborted {
            let task = tasks.remove(at);
            assert_eq!(set.aborted(task.key), Some(Abort::Own));
            assert_eq!(set.leave(task.key), Some(Abort::Own));
            continue;
        }
        if !tasks[at].enabled {
            assert!(is_in_turn(tasks, at), "{tag} was woken before its turn");
            tasks[at].enabled = true;
        }
        assert!(set.may_start(tasks[at].key));
        tasks[at].runs = set.claim(tasks[at].key, tasks[at].footprint);
    }
}

fn check(tasks: &[Known]) {
    for (at, task) in tasks.iter().enumerate() {
        if task.runs {
            for other in tasks[..at].iter().filter(|other| other.runs) {
                assert!(!clash(task.footprint, other.footprint), "{task:?} beside {other:?}");
            }
        } else if task.enabled {
            assert!(!has_room(tasks, at), "{task:?} waits for nobody among {tasks:?}");
        } else {
            assert!(!is_in_turn(tasks, at), "{task:?} waits for nobody among {tasks:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Nobody runs beside one that excludes it or before its turn, nobody waits without a reason, and
    /// in the end all have run.
    #[test]
    fn the_task_set_keeps_the_plain_rules(
        steps in proptest::collection::vec((0..11u8, 0..20u64, 0..6u64, any::<bool>(), any::<prop::sample::Index>()), 1..60)
    ) {
        let mut set = TaskSet::default();
        let mut tasks: Vec<Known> = Vec::new();
        for (number, (kind, first, count, alone, which)) in steps.iter().enumerate() {
            let running: Vec<usize> = (0..tasks.len()).filter(|at| tasks[*at].runs).collect();
            if *kind < 4 && !running.is_empty() {
                let task = tasks.remove(*which.get(&running));
                prop_assert_eq!(set.leave(task.key), task.aborted.then_some(Abort::Own));
            } else if *kind == 10 && !tasks.is_empty() {
                let task = which.get(&tasks).clone();
                let waited_for = set.abort(NEXUS, |_, id| id == u64::from(task.tag), None);
                prop_assert_eq!(waited_for, if task.runs { [task.tag].to_vec() } else { Vec::new() });
                tasks.iter_mut().find(|other| other.tag == task.tag).unwrap().aborted = true;
            } else {
                let attribute = match kind { 4 => Ordered, 5 => HeadOfQueue, _ => Simple };
                let footprint = if *alone { exclusive(*first, first + count) } else { shared(*first, first + count) };
                let tag = number as u32;
                let key = set.enter(tag, NEXUS, u64::from(tag), attribute).unwrap();
                let enabled = set.may_start(key);
                tasks.push(Known { key, tag, attribute, footprint, enabled, runs: false, aborted: false });
                let at = tasks.len() - 1;
                prop_assert_eq!(enabled, is_in_turn(&tasks, at));
                if enabled {
                    let room = has_room(&tasks, at);
                    tasks[at].runs = set.claim(key, footprint);
                    prop_assert_eq!(tasks[at].runs, room);
                }
            }
            drain(&mut set, &mut tasks);
            check(&tasks);
        }
        while let Some(at) = tasks.iter().position(|task| task.runs) {
            let task = tasks.remove(at);
            prop_assert_eq!(set.leave(task.key), task.aborted.then_some(Abort::Own));
            drain(&mut set, &mut tasks);
            check(&tasks);
        }
        prop_assert!(tasks.is_empty(), "the rest waits for ever: {:?}", tasks);
        prop_assert_eq!(set.len(), 0);
    }
}
