//! Ordering what was paid for.
//!
//! contract: voyage §7.2 (PENDING), §14.5 (resume after a crash), §6.5 (offline orders). The orders were written down when
//! the payment succeeded; here each is placed and its answer stored, and when all have answered the booking is confirmed.
//! A crash in between leaves pending rows, and placing an order again finds the same record locator.

use shared::{ApiError, id::BookingId};

use super::{
    model::{Status, Trigger},
    orders::{self, Order},
    saga::{self, Actor},
    store,
};
use crate::{
    fault,
    voyage::{VoyageState, supply::offline::Offline},
};

/// Why an order could not be placed.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    /// No supplier of that name takes orders.
    #[error("no supplier takes this order")]
    NoSupplier,
}

/// Places the orders of the next paid bookings. Says how many bookings were looked at.
pub async fn run_once(state: &VoyageState) -> Result<usize, ApiError> {
    const BATCH: i64 = 20;
    let waiting = orders::waiting(&mut *state.db.acquire().await?, BATCH).await?;
    let mut confirmed = 0;
    for booking in &waiting {
        confirmed += usize::from(fulfil(state, *booking).await?);
    }
    Ok(confirmed)
}

/// Places what is left to place for one booking, and confirms it when nothing is left. Says whether it is confirmed now.
pub async fn fulfil(state: &VoyageState, booking: BookingId) -> Result<bool, ApiError> {
    let known = orders::of_booking(&mut *state.db.acquire().await?, booking).await?;
    let mut answers = Vec::new();
    for order in known.iter().filter(|order| order.status == "pending") {
        match place(booking, order) {
            Ok(locator) => answers.push((order.line, locator)),
            Err(error) => {
                tracing::error!(%booking, line = order.line, provider = order.provider, %error, alert = true, "order not placed");
                return Ok(false);
            }
        }
    }
    fault::point("booking.ordered");
    let mut tx = state.db.begin().await?;
    let Some(mut locked) = store::lock_by_id(&mut tx, booking).await? else {
        return Ok(false);
    };
    if locked.status != Status::Pending {
        return Ok(locked.status == Status::Confirmed);
    }
    for (line, locator) in &answers {
        orders::confirm(&mut tx, booking, *line, locator, state.sources.now()).await?;
    }
    saga::drive(
        &mut tx,
        &state.sources,
        &mut locked,
        &Trigger::Ordered,
        Actor::Supplier,
        None,
    )
    .await?;
    tx.commit().await?;
    fault::point("booking.confirmed");
    Ok(locked.status == Status::Confirmed)
}

/// Places one order. The offline supplier always confirms, at once, with a record locator that follows from the order.
fn place(booking: BookingId, order: &Order) -> Result<String, OrderError> {
    if order.provider == Offline::NAME {
        return Ok(record_locator(booking, order));
    }
    Err(OrderError::NoSupplier)
}

/// Six characters as airlines print them: letters and digits that cannot be mistaken for each other.
fn record_locator(booking: BookingId, order: &Order) -> String {
    const ALPHABET: [char; 32] = [
        'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X',
        'Y', 'Z', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    let named = format!("ds-order/1\n{booking}\n{}\n{}", order.line, order.offer_id);
    let digest = blake3::hash(named.as_bytes());
    let signs = digest
        .as_bytes()
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
    signs.take(6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(line: i32) -> Order {
        Order {
            line,
            provider: Offline::NAME.to_owned(),
            offer_id: "off_1".to_owned(),
            provider_ref: None,
            status: "pending".to_owned(),
        }
    }

    #[test]
    fn placing_an_order_again_finds_the_same_record() {
        let booking = BookingId(uuid::Uuid::from_u128(1));
        let locator = place(booking, &order(0)).unwrap();
        assert_eq!(locator.len(), 6);
        assert_eq!(place(booking, &order(0)).unwrap(), locator);
        assert_ne!(place(booking, &order(1)).unwrap(), locator);
    }

    #[test]
    fn nobody_orders_from_a_supplier_we_do_not_have() {
        let foreign = Order {
            provider: "elsewhere".to_owned(),
            ..order(0)
        };
        assert!(place(BookingId(uuid::Uuid::nil()), &foreign).is_err());
    }
}
