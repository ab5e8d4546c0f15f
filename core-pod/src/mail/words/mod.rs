//! The words of all letters, one file per language. Plain text only: no markup, no escaping.

pub mod en;
pub mod fr;

use super::{letter::BookingFacts, render::Setting};

/// Names of the facts of a booking, in one language.
struct Labels {
    reference: &'static str,
    kind: &'static str,
    destination: &'static str,
    amount: &'static str,
}

/// The facts that are known.
fn facts(
    booking: &BookingFacts,
    labels: &Labels,
    kind: Option<&'static str>,
    setting: &Setting<'_>,
) -> Vec<(&'static str, String)> {
    let known = [
        (labels.reference, Some(reference(booking))),
        (labels.kind, kind.map(str::to_owned)),
        (
            labels.destination,
            booking
                .destination
                .as_deref()
                .map(|place| super::format::line(place, 120)),
        ),
        (labels.amount, booking.amount.map(|amount| setting.amount(amount))),
    ];
    known
        .into_iter()
        .filter_map(|(label, value)| Some((label, value.filter(|value| !value.is_empty())?)))
        .collect()
}

fn reference(booking: &BookingFacts) -> String {
    super::format::line(&booking.reference, 60)
}
