//! The control queue (5.1.6.5).

use crate::config::Config;
use crate::v1::{ADDRESSES_MAX, State};
use guest_memory::Memory;
use request::{Mac, Span, advance, total};
use virtqueue::Chain;

/// What a command changed, for those outside who depend on it. The state goes to the ledger before
/// the command's end is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// The receive filters.
    Filter,
    /// The driver's address: the switch may know the old one.
    Mac(Mac),
    /// Ring pairs in use.
    Pairs(u16),
    /// The driver announced itself as it was told.
    Announced,
}

const OK: u8 = 0;
const ERR: u8 = 1;

/// The longest fixed payload.
const PAYLOAD_MAX: usize = 8;

/// Carries a command out and writes its answer; gives the bytes written. A command that is not
/// whole, or not known, is answered with an error and changes nothing.
pub fn execute(
    memory: &Memory,
    chain: &mut Chain,
    state: &mut State,
    config: &Config,
) -> (u32, bool, Effect) {
    let (readable, writable) = chain.split_mut();
    let effect = command(memory, readable, state, config);
    let answer = if effect.is_some() { OK } else { ERR };
    let written = writable
        .iter()
        .find_map(|span| span.split_at(1))
        .and_then(|(byte, _)| memory.write(byte, &[answer]))
        .map_or(0, |()| 1);
    (written, effect.is_some(), effect.unwrap_or(Effect::None))
}

fn take<'a>(memory: &Memory, spans: &'a mut [Span], into: &mut [u8]) -> Option<&'a mut [Span]> {
    (memory.gather(spans, into) == into.len()).then_some(())?;
    advance(spans, into.len() as u64)
}

fn command(memory: &Memory, spans: &mut [Span], state: &mut State, config: &Config) -> Option<Effect> {
    let mut head = [0; 2];
    let spans = take(memory, spans, &mut head)?;
    // VIRTIO_NET_CTRL_MAC_TABLE_SET is the one command of variable length.
    if head == [1, 0] {
        return mac_tables(memory, spans, state);
    }
    let mut payload = [0; PAYLOAD_MAX];
    let len = usize::try_from(total(spans)).ok()?;
    let payload = payload.get_mut(..len)?;
    take(memory, spans, payload)?;
    let payload = &*payload;
    let switch = || match payload {
        [value] => Some(*value != 0),
        _ => None,
    };
    let word = || Some(u16::from_le_bytes(<[u8; 2]>::try_from(payload).ok()?));
    match head {
        // VIRTIO_NET_CTRL_RX: PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST.
        [0, 0] => state.promiscuous = switch()?,
        [0, 1] => state.all_multicast = switch()?,
        [0, 2] => state.all_unicast = switch()?,
        [0, 3] => state.no_multicast = switch()?,
        [0, 4] => state.no_unicast = switch()?,
        [0, 5] => state.no_broadcast = switch()?,
        // VIRTIO_NET_CTRL_MAC_ADDR_SET.
        [1, 1] => {
            let mac = Mac(<[u8; 6]>::try_from(payload).ok()?);
            if mac != state.mac && (!config.mac_changeable || mac.is_group() || mac == Mac::default()) {
                return None;
            }
            state.mac = mac;
            return Some(Effect::Mac(mac));
        }
        // VIRTIO_NET_CTRL_VLAN: ADD, DEL.
        [2, add @ 0..=1] => {
            let vid = usize::from(word()?);
            let bits = state.vlans.get_mut(vid / 8)?;
            let bit = 1 << (vid % 8);
            *bits = if add == 0 { *bits | bit } else { *bits & !bit };
        }
        // VIRTIO_NET_CTRL_ANNOUNCE_ACK.
        [3, 0] => {
            if !payload.is_empty() || !core::mem::take(&mut state.announce) {
                return None;
            }
            return Some(Effect::Announced);
        }
        // VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET.
        [4, 0] => {
            let pairs = word()?;
            if pairs == 0 || pairs > config.pairs_max {
                return None;
            }
            state.pairs = pairs;
            return Some(Effect::Pairs(pairs));
        }
        _ => return None,
    }
    Some(Effect::Filter)
}

/// Two tables, each a number and as many addresses: unicast, then multicast.
fn mac_tables(memory: &Memory, mut spans: &mut [Span], state: &mut State) -> Option<Effect> {
    let mut tables = [state.unicast.clone(), state.multicast.clone()];
    for table in &mut tables {
        let mut count = [0; 4];
        spans = take(memory, spans, &mut count)?;
        let count = u32::from_le_bytes(count) as usize;
        // One more than there is room for makes the table overflow.
        let mut list = [Mac::default(); ADDRESSES_MAX + 1];
        let kept = count.min(list.len());
        for mac in &mut list[..kept] {
            spans = take(memory, spans, &mut mac.0)?;
        }
        spans = advance(spans, (count - kept) as u64 * 6)?;
        table.set(&list[..kept]);
    }
    if total(spans) != 0 {
        return None;
    }
    [state.unicast, state.multicast] = tables;
    Some(Effect::Filter)
}
