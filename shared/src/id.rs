//! Typed ids: a user's id cannot be passed where a booking's is wanted.

use uuid::Uuid;

/// What all typed ids have in common.
pub trait TypedId: Copy + Send + Sync + 'static {
    /// Wraps a UUID.
    fn from_uuid(uuid: Uuid) -> Self;
    /// The UUID inside.
    fn uuid(self) -> Uuid;
}

/// Declares typed ids over UUIDs, one line each: `Display`, `FromStr`, serde, sqlx and OpenAPI included.
#[macro_export]
macro_rules! typed_id {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type, utoipa::ToSchema)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub uuid::Uuid);

        impl $crate::id::TypedId for $name {
            fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
            fn uuid(self) -> uuid::Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
        }
    )+};
}

typed_id! {
    /// A traveller's account.
    UserId;
    /// A sign-in: the family of refresh tokens and access tokens that one login started (`sid`).
    SessionId;
    /// A notification of one traveller.
    NotificationId;
    /// A cart, of an account or of an anonymous browser.
    CartId;
    /// One line of a cart.
    CartItemId;
    /// A voyage booking, from draft to settlement.
    BookingId;
    /// A payment transaction of ours (Stripe's PaymentIntent has its own id).
    PaymentId;
    /// A refund of ours.
    RefundId;
    /// An event on Kafka.
    EventId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = UserId(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse::<UserId>().unwrap(), id);
        assert_eq!(
            serde_json::to_string(&id).unwrap(),
            "\"00000000-0000-0000-0000-000000000007\""
        );
    }
}
