//! The English words. contract: core §9

use super::{Labels, facts, reference};
use crate::mail::{
    format::{line, paragraphs},
    letter::{BookingFacts, BookingKind, Letter, Protection},
    render::{Action, Body, Setting},
};

/// At the foot of every mail.
pub const FOOTER: &str = "You receive this message because this address belongs to a DreamScape account.";
/// For marketing only.
pub const UNSUBSCRIBE: &str = "Unsubscribe from offers";

const LABELS: Labels = Labels {
    reference: "Reference",
    kind: "Type",
    destination: "Destination",
    amount: "Amount",
};

const NOT_YOU: &str = "If this was not you, change your password at once.";

/// `Hello Ada,`
pub fn greeting(name: Option<&str>) -> String {
    name.map_or_else(|| "Hello,".to_owned(), |name| format!("Hello {name},"))
}

/// The words of a letter.
pub fn body(letter: &Letter, setting: &Setting<'_>) -> Body {
    match letter {
        Letter::BookingConfirmed(_)
        | Letter::BookingCancelled(_)
        | Letter::PaymentReceived(_)
        | Letter::PaymentFailed(_)
        | Letter::RefundProcessed(_) => trip(letter, setting),
        Letter::VerifyEmail { .. }
        | Letter::ConfirmNewEmail { .. }
        | Letter::EmailChanged { .. }
        | Letter::ResetPassword { .. } => address(letter, setting),
        _ => account(letter, setting),
    }
}

fn simple(subject: &str, text: &str) -> Body {
    Body {
        subject: format!("{subject} – DreamScape"),
        preview: text.to_owned(),
        heading: subject.to_owned(),
        paragraphs: vec![text.to_owned()],
        ..Body::default()
    }
}

fn trip(letter: &Letter, setting: &Setting<'_>) -> Body {
    let (booking, mut body) = match letter {
        Letter::BookingConfirmed(booking) => (
            booking,
            simple(
                &format!("Booking {} confirmed", reference(booking)),
                "Your booking is confirmed. Have a good trip!",
            ),
        ),
        Letter::BookingCancelled(booking) => (
            booking,
            simple(
                &format!("Booking {} cancelled", reference(booking)),
                "Your booking has been cancelled. If money goes back to you, another message will say so.",
            ),
        ),
        Letter::PaymentReceived(booking) => (
            booking,
            simple(
                &format!("Payment received for booking {}", reference(booking)),
                "We have received your payment. Thank you!",
            ),
        ),
        Letter::PaymentFailed(booking) => (
            booking,
            simple(
                &format!("Payment failed for booking {}", reference(booking)),
                "Your payment did not go through and you have not been charged. You can try again from your bookings.",
            ),
        ),
        Letter::RefundProcessed(booking) => (
            booking,
            simple(
                &format!("Refund for booking {}", reference(booking)),
                "Your refund is on its way. Depending on your bank, it shows on your account within 5 to 10 days.",
            ),
        ),
        _ => return Body::default(),
    };
    body.facts = facts(booking, &LABELS, kind(booking), setting);
    body.actions = vec![Action::new("See my bookings", setting.page("bookings"))];
    body
}

fn kind(booking: &BookingFacts) -> Option<&'static str> {
    Some(match booking.kind? {
        BookingKind::Flight => "Flight",
        BookingKind::Hotel => "Hotel",
        BookingKind::Transfer => "Transfer",
        BookingKind::Activity => "Activity",
        BookingKind::Package => "Package",
    })
}

fn address(letter: &Letter, setting: &Setting<'_>) -> Body {
    match letter {
        Letter::VerifyEmail { token } => Body {
            actions: vec![Action::new(
                "Confirm my address",
                setting.secret_page("verify-email", token),
            )],
            remarks: vec![
                "This link works once, within 24 hours.".to_owned(),
                "If you did not create an account, ignore this message.".to_owned(),
            ],
            ..simple(
                "Confirm your address",
                "Confirm that this address is yours to complete your sign-up.",
            )
        },
        Letter::ConfirmNewEmail { token, in_use } => Body {
            actions: vec![Action::new(
                "Confirm this address",
                setting.secret_page("verify-email", token),
            )],
            remarks: vec![
                "This link works once, within 24 hours.".to_owned(),
                "If you did not ask for this, ignore this message.".to_owned(),
            ],
            ..simple(
                "Confirm your new address",
                if *in_use {
                    "This address is now the one of your DreamScape account. Confirm that it is yours."
                } else {
                    "Confirm that this address is yours: it will then replace the old one of your account."
                },
            )
        },
        Letter::EmailChanged {
            new_address,
            token,
            until,
        } => Body {
            facts: vec![("New address", line(new_address, 80))],
            actions: vec![Action::new(
                "Undo this change",
                setting.secret_page("revert-email", token),
            )],
            remarks: vec![format!(
                "If you made this change, there is nothing to do. If not, this link restores this address and signs everybody out. It works until {}.",
                setting.instant(*until)
            )],
            ..simple(
                "Your address was changed",
                "The address of your DreamScape account was replaced by another one.",
            )
        },
        Letter::ResetPassword { token, until } => Body {
            actions: vec![Action::new(
                "Choose a new password",
                setting.secret_page("reset-password", token),
            )],
            remarks: vec![
                format!("This link works once, until {}.", setting.instant(*until)),
                "If you did not ask for this, ignore this message: your password stays as it is.".to_owned(),
            ],
            ..simple("Reset your password", "You asked to choose a new password.")
        },
        _ => Body::default(),
    }
}

fn account(letter: &Letter, setting: &Setting<'_>) -> Body {
    let reset = || Action::new("Change my password", setting.page("forgot-password"));
    match letter {
        Letter::PasswordChanged { at } => Body {
            facts: vec![("Date", setting.instant(*at))],
            actions: vec![reset()],
            remarks: vec![NOT_YOU.to_owned()],
            ..simple("Your password was changed", "The password of your account has just been changed.")
        },
        Letter::NewDevice { at, device, ip_address, token } => {
            let seen = [
                ("Date", Some(setting.instant(*at))),
                ("Device", device.as_deref().map(|device| line(device, 120))),
                ("IP address", ip_address.as_deref().map(|address| line(address, 60))),
            ];
            let end = token
                .as_ref()
                .map(|token| Action::new("This was not me", setting.secret_page("revoke-session", token)));
            Body {
                facts: seen.into_iter().filter_map(|(label, value)| Some((label, value?))).collect(),
                actions: end.into_iter().chain([reset()]).collect(),
                remarks: vec![
                    "If this was you, there is nothing to do. If not, close that session and change your password.".to_owned(),
                ],
                ..simple("New sign-in to your account", "Somebody has just signed in from a new device.")
            }
        }
        Letter::SessionClosed { at } => Body {
            facts: vec![("Date", setting.instant(*at))],
            actions: vec![reset()],
            remarks: vec![NOT_YOU.to_owned()],
            ..simple(
                "A session was closed for your safety",
                "One of your sessions was closed because its credentials were used twice.",
            )
        },
        Letter::AccountLocked { until } => Body {
            facts: until.iter().map(|until| ("Until", setting.instant(*until))).collect(),
            actions: until.iter().map(|_| reset()).collect(),
            remarks: vec![
                if until.is_some() {
                    "Choosing a new password unlocks the account at once. If these attempts were not yours, your password was not found."
                } else {
                    "If you have questions, please contact our support."
                }
                .to_owned(),
            ],
            ..simple("Your account is locked", "For your safety, signing in to your account is locked.")
        },
        Letter::RecoveryCodeUsed { at, remaining } => Body {
            facts: vec![("Date", setting.instant(*at)), ("Codes left", remaining.to_string())],
            actions: vec![reset()],
            remarks: vec![NOT_YOU.to_owned()],
            ..simple("A recovery code was used", "One of your recovery codes has just been used to sign in.")
        },
        Letter::ProtectionChanged { at, change } => {
            let (subject, text) = protection(*change);
            Body {
                facts: vec![("Date", setting.instant(*at))],
                actions: vec![reset()],
                remarks: vec![NOT_YOU.to_owned()],
                ..simple(subject, text)
            }
        }
        other => data(other, setting),
    }
}

const fn protection(change: Protection) -> (&'static str, &'static str) {
    match change {
        Protection::SecondFactorOn => (
            "Two-factor authentication is on",
            "From now on, signing in to your account asks for a code of your authenticator app.",
        ),
        Protection::SecondFactorOff => (
            "Two-factor authentication is off",
            "Your password alone is enough again to sign in to your account.",
        ),
        Protection::RecoveryCodesReplaced => (
            "New recovery codes",
            "New recovery codes were made for your account; the old ones count no more.",
        ),
        Protection::PasskeyAdded => (
            "A passkey was added",
            "Your account can be signed in to with a new passkey.",
        ),
        Protection::PasskeyRemoved => ("A passkey was removed", "A passkey of your account was removed."),
        Protection::AccountLinked => (
            "An account was linked",
            "Your account can be signed in to with an account at another provider.",
        ),
        Protection::AccountUnlinked => (
            "An account was unlinked",
            "An account at another provider does not sign in to your account any more.",
        ),
        Protection::Reset => (
            "Your second factors were taken away",
            "Our support has taken all second factors of your account away, and all its sessions were closed.",
        ),
    }
}

fn data(letter: &Letter, setting: &Setting<'_>) -> Body {
    match letter {
        Letter::ExportReady { until } => Body {
            facts: until
                .iter()
                .map(|until| ("Available until", setting.instant(*until)))
                .collect(),
            actions: vec![Action::new("Download my data", setting.page("privacy"))],
            remarks: vec!["You need to be signed in to download it.".to_owned()],
            ..simple(
                "Your data is ready",
                "The export of your data that you asked for is ready.",
            )
        },
        Letter::DeletionScheduled { at } => Body {
            facts: vec![("Deletion on", setting.day(*at))],
            actions: vec![Action::new("Cancel the deletion", setting.page("privacy"))],
            remarks: vec!["Until that day you can change your mind.".to_owned()],
            ..simple(
                "Your account will be deleted",
                "As you asked, your account and its data will be deleted.",
            )
        },
        Letter::DeletionDone => Body {
            remarks: vec!["Payment records are kept for as long as the law demands, without your name.".to_owned()],
            ..simple(
                "Your account was deleted",
                "Your account and its data were deleted. This message is the last one.",
            )
        },
        Letter::Notification { title, message } | Letter::Promotion { title, message, .. } => Body {
            paragraphs: paragraphs(message, 2_000),
            preview: line(message, 140),
            ..simple(&line(title, 200), "")
        },
        _ => Body::default(),
    }
}
