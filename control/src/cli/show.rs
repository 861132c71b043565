//! Tables for people.

use crate::site::SlotId;
use crate::status::{Reservation, ReservationType};
use std::io::{self, Write};

/// Left-aligned columns with two spaces between them.
pub(super) fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head.get(column).map_or(0, |cell| cell.len()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    line(&mut head.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// A list, or a dash for none.
pub(super) fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(" ") }
}

/// Bytes with one decimal, for sizes that are no round numbers.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{}{}", text.trim_end_matches(".0"), UNITS[unit])
}

/// Slots and targets that have a volume, as one list.
pub(super) fn users(slots: &[SlotId], targets: &[String]) -> Vec<String> {
    let slots = slots.iter().map(SlotId::to_string);
    slots.chain(targets.iter().map(|target| format!("target:{target}"))).collect()
}

/// In the words of SPC.
pub(super) fn reservation_text(reservation: &Reservation) -> String {
    let kind = match reservation.kind {
        None => "not reserved",
        Some(ReservationType::Reserve) => "RESERVE",
        Some(ReservationType::WriteExclusive) => "Write Exclusive",
        Some(ReservationType::ExclusiveAccess) => "Exclusive Access",
        Some(ReservationType::WriteExclusiveRegistrantsOnly) => "Write Exclusive, Registrants Only",
        Some(ReservationType::ExclusiveAccessRegistrantsOnly) => "Exclusive Access, Registrants Only",
        Some(ReservationType::WriteExclusiveAllRegistrants) => "Write Exclusive, All Registrants",
        Some(ReservationType::ExclusiveAccessAllRegistrants) => "Exclusive Access, All Registrants",
    };
    let holder = reservation.holder.as_ref().map_or(String::new(), |holder| format!(", held by {holder}"));
    let kept = if reservation.aptpl { ", kept over loss of power" } else { "" };
    format!(
        "{kind}{holder}; {} registered, generation {}{kept}",
        reservation.registrants, reservation.generation
    )
}
