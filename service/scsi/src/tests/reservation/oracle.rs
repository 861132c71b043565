//! The table against a model written from the standard's tables alone, with small numbers for names,
//! under random sequences from a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::reservation::Access;

/// Initiator and port.
type Who = (u8, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Good,
    Conflict,
    Check(u8, u8),
}

/// All that the standard speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    keys: BTreeMap<Who, u64>,
    /// Type, and the holder of those types that have one.
    held: Option<(u8, Who)>,
    generation: u32,
    aptpl: bool,
    reserve: Option<Who>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    told: BTreeSet<(Who, u8)>,
    abort: BTreeSet<Who>,
}

/// One command with what it names.
#[derive(Clone, Debug)]
struct Ask {
    from: Who,
    action: u8,
    scope: u8,
    kind: u8,
    key: u64,
    new: u64,
    spec: Option<Vec<u8>>,
    all: bool,
    aptpl: bool,
    unreg: bool,
    to: Who,
}

const PORTS: [u16; 3] = [1, 2, 3];

impl Model {
    fn all_registrants(&self) -> bool {
        matches!(self.held, Some((7 | 8, _)))
    }

    fn holds(&self, who: Who) -> bool {
        match self.held {
            Some((7 | 8, _)) => self.keys.contains_key(&who),
            Some((_, holder)) => holder == who,
            None => false,
        }
    }

    /// Table 71.
    fn drop_registration(&mut self, who: Who) {
        self.keys.remove(&who);
        match self.held {
            Some((7 | 8, _)) if self.keys.is_empty() => self.held = None,
            Some((1 | 3 | 5 | 6, holder)) if holder == who => self.held = None,
            _ => {}
        }
    }

    fn out(&mut self, ask: &Ask) -> (Answer, Said) {
        let mut copy = self.clone();
        let mut said = Said::default();
        let answer = copy.decide(ask, &mut said);
        if answer == Answer::Good {
            *self = copy;
            (answer, said)
        } else {
            (answer, Said::default())
        }
    }

    fn decide(&mut self, ask: &Ask, said: &mut Said) -> Answer {
        let mine = self.keys.get(&ask.from).copied();
        let reserving = |ask: &Ask| {
            if ask.scope != 0 || ![1, 3, 5, 6, 7, 8].contains(&ask.kind) {
                Answer::Check(0x24, 0)
            } else {
                Answer::Good
            }
        };
        if self.reserve.is_some() {
            return Answer::Conflict;
        }
        // Unregistered: only 0, 6, and 8 where nobody else reserves.
        if mine.is_none() && ![0, 6].contains(&ask.action) && !(ask.action == 8 && self.held.is_none()) {
            return Answer::Conflict;
        }
        if ask.spec.is_some() && ![0, 7].contains(&ask.action) {
            return Answer::Check(0x26, 0);
        }
        if ![0, 6, 8].contains(&ask.action) && mine != Some(ask.key) {
            return Answer::Conflict;
        }
        match ask.action {
            0 | 6 => return self.register(ask, mine, said),
            1 => {
                if reserving(ask) != Answer::Good {
                    return reserving(ask);
                }
                if let Some((kind, _)) = self.held {
                    if !self.holds(ask.from) || kind != ask.kind {
                        return Answer::Conflict;
                    }
                } else {
                    self.held = Some((ask.kind, ask.from));
                }
                return Answer::Good;
            }
            2 => {
                if ask.scope != 0 {
                    return Answer::Check(0x24, 0);
                }
                if self.holds(ask.from) {
                    if self.held.unwrap().0 != ask.kind {
                        return Answer::Check(0x26, 4);
                    }
                    self.held = None;
                    if ask.kind >= 5 {
                        self.tell(ask.from, 4, said);
                    }
                }
                return Answer::Good;
            }
            3 => {
                self.tell(ask.from, 3, said);
                self.keys.clear();
                self.held = None;
            }
            4 | 5 => {
                let replaces = if self.all_registrants() {
                    ask.new == 0
                } else if let Some((_, holder)) = self.held {
                    if ask.new == 0 {
                        return Answer::Check(0x26, 0);
                    }
                    self.keys[&holder] == ask.new
                } else {
                    false
                };
                let victims: Vec<Who> = (self.keys.iter())
                    .filter(|(_, key)| **key == ask.new || replaces && ask.new == 0)
                    .map(|(who, _)| *who)
                    .collect();
                if victims.is_empty() {
                    return Answer::Conflict;
                }
                let old = self.held;
                if replaces {
                    if reserving(ask) != Answer::Good {
                        return reserving(ask);
                    }
                    self.held = None;
                }
                for victim in &victims {
                    if !replaces || *victim != ask.from {
                        self.drop_registration(*victim);
                    }
                    if *victim != ask.from {
                        said.told.insert((*victim, 5));
                    }
                }
                if replaces {
                    self.held = Some((ask.kind, ask.from));
                    if old.unwrap().0 != ask.kind {
                        self.tell(ask.from, 4, said);
                    }
                }
                if ask.action == 5 {
                    said.abort.extend(victims);
                }
            }
            7 => {
                let Some((kind, _)) = self.held else { return Answer::Check(0x24, 0) };
                if self.all_registrants() || !self.holds(ask.from) {
                    return Answer::Conflict;
                }
                if ask.new == 0 || ask.to.0 == ask.from.0 || !PORTS.contains(&ask.to.1) {
                    return Answer::Check(0x26, 0);
                }
                self.keys.insert(ask.to, ask.new);
                self.held = Some((kind, ask.to));
                if ask.unreg {
                    self.drop_registration(ask.from);
                }
                self.aptpl = ask.aptpl;
            }
            _ => return Answer::Check(0x26, 4),
        }
        self.generation += 1;
        Answer::Good
    }

    /// Tables 67 to 69.
    fn register(&mut self, ask: &Ask, mine: Option<u64>, said: &mut Said) -> Answer {
        let ignore = ask.action == 6;
        if !ignore {
            if mine.unwrap_or(0) != ask.key {
                return Answer::Conflict;
            }
            if mine.is_some() && ask.spec.is_some() {
                return Answer::Check(0x26, 0);
            }
        }
        let ports: Vec<u16> = if ask.all { PORTS.to_vec() } else { Vec::from([ask.from.1]) };
        let old = self.clone();
        let initiator = ask.from.0;
        // "As if the same registration request had been received individually".
        if ports.iter().any(|port| {
            let key = old.keys.get(&(initiator, *port)).copied();
            !ignore && ask.new != 0 && key.is_some_and(|key| key != ask.key)
        }) {
            return Answer::Conflict;
        }
        for port in &ports {
            let who = (initiator, *port);
            if ask.new != 0 {
                self.keys.insert(who, ask.new);
            } else if old.keys.contains_key(&who) && (ignore || old.keys[&who] == ask.key) {
                self.drop_registration(who);
            }
        }
        if let (Some((5 | 6, _)), None) = (old.held, self.held) {
            self.tell(ask.from, 4, said);
        }
        if ask.new != 0 {
            for listed in ask.spec.iter().flatten().filter(|listed| **listed != initiator) {
                for port in &ports {
                    if old.keys.contains_key(&(*listed, *port)) {
                        return Answer::Check(0x26, 0);
                    }
                    self.keys.insert((*listed, *port), ask.new);
                }
            }
        }
        self.aptpl = ask.aptpl;
        self.generation += 1;
        Answer::Good
    }

    fn tell(&self, from: Who, qualifier: u8, said: &mut Said) {
        said.told.extend(self.keys.keys().filter(|who| **who != from).map(|who| (*who, qualifier)));
    }

    /// The letters of the tables, as in [`super::matrix`] but by another way.
    fn allows(&self, who: Who, access: Access) -> bool {
        if let Some(owner) = self.reserve {
            return owner == who || access == Access::Always;
        }
        let Some((kind, _)) = self.held else { return true };
        let inside = if kind < 5 { self.holds(who) } else { self.keys.contains_key(&who) };
        let shared = [1, 5, 7].contains(&kind);
        match access {
            Access::Read => inside || shared,
            Access::Write => inside,
            _ => true,
        }
    }

    /// SPC-2 with the exceptions of SPC-4 5.13.3.
    fn reserve(&mut self, who: Who, release: bool) -> Answer {
        let registrants = matches!(self.held, Some((5..=8, _))) && self.keys.contains_key(&who);
        if self.holds(who) || registrants {
            return Answer::Good;
        }
        if !self.keys.is_empty() {
            return Answer::Conflict;
        }
        match self.reserve {
            Some(owner) if owner == who && release => self.reserve = None,
            Some(owner) if owner != who && !release => return Answer::Conflict,
            None if !release => self.reserve = Some(who),
            _ => {}
        }
        Answer::Good
    }

    fn power_lost(&mut self) {
        self.reserve = None;
        self.generation = 0;
        if !self.aptpl {
            *self = Model::default();
        }
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// Two VMs and two sessions.
fn peer((initiator, port): Who) -> Peer {
    match initiator {
        0 | 1 => vm(initiator, port),
        _ => session("iqn.x:cluster", initiator, port),
    }
}

fn who(peer: &Peer) -> Who {
    let initiator = (0..4).find(|initiator| super::oracle::peer((*initiator, 1)).initiator == peer.initiator);
    (initiator.expect("one of four"), peer.port.0)
}

fn everybody() -> Vec<Who> {
    (0..4u8).flat_map(|initiator| PORTS.map(|port| (initiator, port))).collect()
}

fn ask(dice: &mut Dice, model: &Model) -> Ask {
    let from = (dice.below(4) as u8, 1 + dice.below(3) as u16);
    let action = dice.below(9) as u8;
    // Mostly the right key, else hardly anything would ever happen.
    let key = match model.keys.get(&from) {
        Some(key) if !dice.one_in(8) => *key,
        None if !dice.one_in(8) => 0,
        _ => dice.below(4),
    };
    let kind = match model.held {
        Some((kind, _)) if dice.one_in(2) => kind,
        _ => [1, 3, 5, 6, 7, 8, 1, 3, 5, 6, 7, 8, 0, 2, 4, 9][dice.below(16) as usize],
    };
    let listed = dice.below(4);
    let ids = (0..listed).map(|_| dice.below(4) as u8).collect();
    Ask {
        from,
        action,
        scope: if dice.one_in(20) { 1 + dice.below(15) as u8 } else { 0 },
        kind,
        key,
        new: if dice.one_in(4) { 0 } else { 1 + dice.below(3) },
        spec: (action != 7 && dice.one_in(if action == 0 { 3 } else { 30 })).then_some(ids),
        all: dice.one_in(4),
        aptpl: dice.one_in(3),
        unreg: dice.one_in(2),
        to: (dice.below(4) as u8, 1 + dice.below(4) as u16),
    }
}

fn bytes_of(ask: &Ask) -> Vec<u8> {
    if ask.action == REGISTER_AND_MOVE {
        let flags = u8::from(ask.aptpl) | u8::from(ask.unreg) << 1;
        return move_list(ask.key, ask.new, flags, &peer(ask.to));
    }
    let mut flags = u8::from(ask.aptpl) | u8::from(ask.all) << 2;
    flags |= if ask.spec.is_some() { 0x08 } else { 0 };
    let mut list = list(ask.key, ask.new, flags);
    if let Some(ids) = &ask.spec {
        let ids: Vec<Vec<u8>> = ids.iter().map(|id| peer((*id, 1)).initiator.as_bytes().to_vec()).collect();
        let ids = ids.concat();
        list.extend_from_slice(&(ids.len() as u32).to_be_bytes());
        list.extend_from_slice(&ids);
    }
    list
}

fn answer<T>(result: &Result<T, Refusal>) -> Answer {
    match result {
        Ok(_) => Answer::Good,
        Err(Refusal::Conflict) => Answer::Conflict,
        Err(Refusal::Check(sense)) => Answer::Check(sense.asc, sense.ascq),
    }
}

/// The parameter data of PERSISTENT RESERVE IN, as the model would have it, in no order of its own.
fn compare(bench: &Bench, model: &Model) {
    if model.reserve.is_some() {
        assert_eq!(bench.table.read(0x03), Err(Refusal::Conflict));
        return;
    }
    assert_eq!(bench.generation(), model.generation);
    let mut keys = bench.keys();
    keys.sort_unstable();
    let mut expected: Vec<u64> = model.keys.values().copied().collect();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let reservation =
        model.held.map(|(kind, holder)| (if kind >= 7 { 0 } else { model.keys[&holder] }, kind));
    assert_eq!(bench.reservation(), reservation);
    assert_eq!(bench.table.read(0x02).unwrap()[3] & 1, u8::from(model.aptpl));
    let status = bench.table.read(0x03).unwrap();
    let mut rest = &status[8..];
    let mut seen = BTreeMap::new();
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[20..24].try_into().unwrap()) as usize;
        let (initiator, used) = TransportId::parse(&rest[24..]).expect("a TransportID");
        assert_eq!(used, len);
        let port = PortId(u16::from_be_bytes([rest[18], rest[19]]));
        let key = u64::from_be_bytes(rest[..8].try_into().unwrap());
        seen.insert(who(&Peer { initiator, port }), (key, rest[12], rest[13]));
        rest = &rest[24 + len..];
    }
    let expected = model.keys.iter().map(|(who, key)| {
        let holder = model.holds(*who);
        let kind = if holder { model.held.unwrap().0 } else { 0 };
        (*who, (*key, u8::from(holder), kind))
    });
    assert_eq!(seen, expected.collect());
}

fn run(seed: u64, steps: u32, reached: &mut BTreeSet<(u8, Answer)>) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let all = everybody();
    let mut bench = Bench::new(&all.iter().map(|who| peer(*who)).collect::<Vec<Peer>>());
    let mut model = Model::default();
    for _ in 0..steps {
        let before = model.clone();
        let kept = bench.table.kept();
        let mut fenced = None;
        match dice.below(40) {
            0 => {
                bench.table.power_lost();
                model.power_lost();
            }
            1 => {
                bench.table.reset();
                model.reserve = None;
            }
            2 => {
                let gone = all[dice.below(12) as usize];
                bench.table.nexus_lost(&peer(gone));
                model.reserve = model.reserve.filter(|owner| *owner != gone);
            }
            3 | 4 => {
                let from = all[dice.below(12) as usize];
                let known = Known { peers: &bench.peers, ports: &bench.ports };
                let result = bench.table.reserve(&known, &peer(from));
                assert_eq!(answer(&result), model.reserve(from, false));
                fenced = result.ok().map(|effects| effects.fenced);
            }
            5 | 6 => {
                let from = all[dice.below(12) as usize];
                let result = bench.table.release(&peer(from));
                assert_eq!(answer(&result), model.reserve(from, true));
            }
            _ => {
                let ask = ask(&mut dice, &model);
                let result =
                    bench.send(&peer(ask.from), ask.action, ask.scope << 4 | ask.kind, &bytes_of(&ask));
                let (expected, said) = model.out(&ask);
                assert_eq!(answer(&result), expected, "seed {seed}: {ask:?} on {before:?}");
                reached.insert((ask.action, expected));
                if let Ok(effects) = result {
                    let told: Vec<(Who, u8)> =
                        told(&effects).iter().map(|(peer, qualifier)| (who(peer), *qualifier)).collect();
                    assert_eq!(
                        told.iter().copied().collect::<BTreeSet<_>>(),
                        said.told,
                        "{ask:?} on {before:?}"
                    );
                    assert_eq!(told.len(), said.told.len(), "nobody is told twice");
                    assert_eq!(effects.abort.iter().map(who).collect::<BTreeSet<_>>(), said.abort);
                    assert_eq!(effects.abort_copies, ask.action == 5);
                    assert_eq!(effects.durable, kept != bench.table.kept());
                    assert_eq!(effects.changed, before != model);
                    let mut both = effects.fenced.clone();
                    both.extend(
                        effects
                            .abort
                            .iter()
                            .filter(|peer| {
                                before.allows(who(peer), Access::Write)
                                    && !model.allows(who(peer), Access::Write)
                            })
                            .cloned(),
                    );
                    fenced = Some(both);
                }
            }
        }
        compare(&bench, &model);
        for who in &all {
            for access in [Access::Always, Access::NotReserved, Access::Read, Access::Write] {
                assert_eq!(bench.table.allows(&peer(*who), access), model.allows(*who, access));
            }
        }
        if let Some(fenced) = fenced {
            let expected: BTreeSet<Who> = (all.iter().copied())
                .filter(|who| before.allows(*who, Access::Write) && !model.allows(*who, Access::Write))
                .collect();
            assert_eq!(fenced.iter().map(who).collect::<BTreeSet<_>>(), expected);
        }
        // A death of the process at any time, and a power loss.
        assert_eq!(Reservations::restore(&bench.table.state()), Ok(bench.table.clone()));
        let mut cut = bench.table.clone();
        cut.power_lost();
        assert_eq!(Reservations::restore(&bench.table.kept()), Ok(cut));
    }
}

#[test]
fn the_table_does_what_the_model_does() {
    let mut reached = BTreeSet::new();
    for seed in 1..=150 {
        run(seed, 200, &mut reached);
    }
    // Every service action was done and refused in each way that it can be.
    let ends = (0..=8u8).flat_map(|action| {
        let checks: &[(u8, u8)] = match action {
            0 | 3 | 6 => &[(0x26, 0x00)],
            1 | 4 | 5 => &[(0x24, 0x00), (0x26, 0x00)],
            2 => &[(0x24, 0x00), (0x26, 0x00), (0x26, 0x04)],
            7 => &[(0x24, 0x00), (0x26, 0x00)],
            _ => &[(0x26, 0x00), (0x26, 0x04)],
        };
        let good = (action < 8).then_some(Answer::Good);
        let checks = checks.iter().map(|(code, qualifier)| Answer::Check(*code, *qualifier));
        good.into_iter().chain([Answer::Conflict]).chain(checks).map(move |end| (action, end))
    });
    assert_eq!(reached, ends.collect());
}
