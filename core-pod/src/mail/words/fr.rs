//! Les mots français. contract: core §9

use super::{Labels, facts, reference};
use crate::mail::{
    format::{line, paragraphs},
    letter::{BookingFacts, BookingKind, Letter, Protection},
    render::{Action, Body, Setting},
};

/// Au pied de chaque message.
pub const FOOTER: &str = "Vous recevez ce message parce que cette adresse est liée à un compte DreamScape.";
/// Pour la publicité seulement.
pub const UNSUBSCRIBE: &str = "Ne plus recevoir d'offres";

const LABELS: Labels = Labels {
    reference: "Référence",
    kind: "Type",
    destination: "Destination",
    amount: "Montant",
};

const NOT_YOU: &str = "Si ce n'était pas vous, changez votre mot de passe sans attendre.";

/// `Bonjour Ada,`
pub fn greeting(name: Option<&str>) -> String {
    name.map_or_else(|| "Bonjour,".to_owned(), |name| format!("Bonjour {name},"))
}

/// Les mots d'une lettre.
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
    let bookings = || vec![Action::new("Voir mes réservations", setting.page("bookings"))];
    let (booking, mut body) = match letter {
        Letter::BookingConfirmed(booking) => (
            booking,
            simple(
                &format!("Réservation {} confirmée", reference(booking)),
                "Votre réservation est confirmée. Nous vous souhaitons un bon voyage !",
            ),
        ),
        Letter::BookingCancelled(booking) => (
            booking,
            simple(
                &format!("Réservation {} annulée", reference(booking)),
                "Votre réservation a été annulée. Un éventuel remboursement vous sera confirmé par un autre message.",
            ),
        ),
        Letter::PaymentReceived(booking) => (
            booking,
            simple(
                &format!("Paiement reçu pour la réservation {}", reference(booking)),
                "Nous avons bien reçu votre paiement. Merci !",
            ),
        ),
        Letter::PaymentFailed(booking) => (
            booking,
            simple(
                &format!("Paiement échoué pour la réservation {}", reference(booking)),
                "Votre paiement n'a pas abouti et aucun montant n'a été débité. Vous pouvez réessayer depuis vos réservations.",
            ),
        ),
        Letter::RefundProcessed(booking) => (
            booking,
            simple(
                &format!("Remboursement de la réservation {}", reference(booking)),
                "Votre remboursement est en route. Selon votre banque, il apparaît sur votre compte sous 5 à 10 jours.",
            ),
        ),
        _ => return Body::default(),
    };
    body.facts = facts(booking, &LABELS, kind(booking), setting);
    body.actions = bookings();
    body
}

fn kind(booking: &BookingFacts) -> Option<&'static str> {
    Some(match booking.kind? {
        BookingKind::Flight => "Vol",
        BookingKind::Hotel => "Hôtel",
        BookingKind::Transfer => "Transfert",
        BookingKind::Activity => "Activité",
        BookingKind::Package => "Forfait",
    })
}

fn address(letter: &Letter, setting: &Setting<'_>) -> Body {
    match letter {
        Letter::VerifyEmail { token } => Body {
            actions: vec![Action::new(
                "Confirmer mon adresse",
                setting.secret_page("verify-email", token),
            )],
            remarks: vec![
                "Ce lien est valable 24 heures et ne sert qu'une fois.".to_owned(),
                "Si vous n'avez pas créé de compte, ignorez ce message.".to_owned(),
            ],
            ..simple(
                "Confirmez votre adresse",
                "Confirmez que cette adresse est bien la vôtre pour terminer votre inscription.",
            )
        },
        Letter::ConfirmNewEmail { token, in_use } => Body {
            actions: vec![Action::new(
                "Confirmer cette adresse",
                setting.secret_page("verify-email", token),
            )],
            remarks: vec![
                "Ce lien est valable 24 heures et ne sert qu'une fois.".to_owned(),
                "Si vous n'avez rien demandé, ignorez ce message.".to_owned(),
            ],
            ..simple(
                "Confirmez votre nouvelle adresse",
                if *in_use {
                    "Cette adresse est maintenant celle de votre compte DreamScape. Confirmez qu'elle est bien la vôtre."
                } else {
                    "Confirmez que cette adresse est bien la vôtre : elle remplacera alors l'ancienne sur votre compte."
                },
            )
        },
        Letter::EmailChanged {
            new_address,
            token,
            until,
        } => Body {
            facts: vec![("Nouvelle adresse", line(new_address, 80))],
            actions: vec![Action::new(
                "Annuler ce changement",
                setting.secret_page("revert-email", token),
            )],
            remarks: vec![format!(
                "Si vous avez fait ce changement, il n'y a rien à faire. Sinon, ce lien rétablit cette adresse et ferme toutes les sessions. Il est valable jusqu'au {}.",
                setting.instant(*until)
            )],
            ..simple(
                "Votre adresse a été changée",
                "L'adresse de votre compte DreamScape a été remplacée par une autre.",
            )
        },
        Letter::ResetPassword { token, until } => Body {
            actions: vec![Action::new(
                "Choisir un nouveau mot de passe",
                setting.secret_page("reset-password", token),
            )],
            remarks: vec![
                format!(
                    "Ce lien ne sert qu'une fois et est valable jusqu'au {}.",
                    setting.instant(*until)
                ),
                "Si vous n'avez rien demandé, ignorez ce message : votre mot de passe reste le même.".to_owned(),
            ],
            ..simple(
                "Réinitialisez votre mot de passe",
                "Vous avez demandé à choisir un nouveau mot de passe.",
            )
        },
        _ => Body::default(),
    }
}

fn account(letter: &Letter, setting: &Setting<'_>) -> Body {
    let reset = || Action::new("Changer mon mot de passe", setting.page("forgot-password"));
    match letter {
        Letter::PasswordChanged { at } => Body {
            facts: vec![("Date", setting.instant(*at))],
            actions: vec![reset()],
            remarks: vec![NOT_YOU.to_owned()],
            ..simple("Votre mot de passe a été changé", "Le mot de passe de votre compte vient d'être changé.")
        },
        Letter::NewDevice { at, device, ip_address, token } => {
            let seen = [
                ("Date", Some(setting.instant(*at))),
                ("Appareil", device.as_deref().map(|device| line(device, 120))),
                ("Adresse IP", ip_address.as_deref().map(|address| line(address, 60))),
            ];
            let end = token
                .as_ref()
                .map(|token| Action::new("Ce n'était pas moi", setting.secret_page("revoke-session", token)));
            Body {
                facts: seen.into_iter().filter_map(|(label, value)| Some((label, value?))).collect(),
                actions: end.into_iter().chain([reset()]).collect(),
                remarks: vec![
                    "Si c'était vous, il n'y a rien à faire. Sinon, fermez cette session et changez votre mot de passe.".to_owned(),
                ],
                ..simple("Nouvelle connexion à votre compte", "Une connexion vient d'avoir lieu depuis un nouvel appareil.")
            }
        }
        Letter::SessionClosed { at } => Body {
            facts: vec![("Date", setting.instant(*at))],
            actions: vec![reset()],
            remarks: vec![NOT_YOU.to_owned()],
            ..simple(
                "Session fermée par sécurité",
                "Une de vos sessions a été fermée car ses identifiants ont été utilisés deux fois.",
            )
        },
        Letter::AccountLocked { until } => Body {
            facts: until.iter().map(|until| ("Jusqu'au", setting.instant(*until))).collect(),
            actions: until.iter().map(|_| reset()).collect(),
            remarks: vec![
                if until.is_some() {
                    "Choisir un nouveau mot de passe débloque le compte tout de suite. Si ces essais n'étaient pas les vôtres, votre mot de passe n'a pas été trouvé."
                } else {
                    "Pour toute question, contactez notre service client."
                }
                .to_owned(),
            ],
            ..simple(
                "Votre compte est bloqué",
                "Pour votre sécurité, la connexion à votre compte est bloquée.",
            )
        },
        Letter::RecoveryCodeUsed { at, remaining } => Body {
            facts: vec![("Date", setting.instant(*at)), ("Codes restants", remaining.to_string())],
            actions: vec![reset()],
            remarks: vec![NOT_YOU.to_owned()],
            ..simple("Un code de secours a été utilisé", "Un de vos codes de secours vient de servir à une connexion.")
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
            "La double authentification est activée",
            "Désormais, la connexion à votre compte demande un code de votre application d'authentification.",
        ),
        Protection::SecondFactorOff => (
            "La double authentification est désactivée",
            "Votre mot de passe suffit de nouveau pour vous connecter à votre compte.",
        ),
        Protection::RecoveryCodesReplaced => (
            "Nouveaux codes de secours",
            "De nouveaux codes de secours ont été créés pour votre compte ; les anciens ne sont plus valables.",
        ),
        Protection::PasskeyAdded => (
            "Une clé d'accès a été ajoutée",
            "Une nouvelle clé d'accès permet de se connecter à votre compte.",
        ),
        Protection::PasskeyRemoved => (
            "Une clé d'accès a été supprimée",
            "Une clé d'accès de votre compte a été supprimée.",
        ),
        Protection::AccountLinked => (
            "Un compte a été associé",
            "Un compte chez un autre fournisseur permet de se connecter à votre compte.",
        ),
        Protection::AccountUnlinked => (
            "Un compte a été dissocié",
            "Un compte chez un autre fournisseur ne permet plus de se connecter à votre compte.",
        ),
        Protection::Reset => (
            "Votre double authentification a été retirée",
            "Notre service client a retiré la double authentification de votre compte, et toutes ses sessions ont été fermées.",
        ),
    }
}

fn data(letter: &Letter, setting: &Setting<'_>) -> Body {
    match letter {
        Letter::ExportReady { until } => Body {
            facts: until
                .iter()
                .map(|until| ("Disponible jusqu'au", setting.instant(*until)))
                .collect(),
            actions: vec![Action::new("Télécharger mes données", setting.page("privacy"))],
            remarks: vec!["Le téléchargement demande que vous soyez connecté.".to_owned()],
            ..simple(
                "Vos données sont prêtes",
                "L'export de vos données que vous avez demandé est prêt.",
            )
        },
        Letter::DeletionScheduled { at } => Body {
            facts: vec![("Suppression le", setting.day(*at))],
            actions: vec![Action::new("Annuler la suppression", setting.page("privacy"))],
            remarks: vec!["Jusqu'à cette date, vous pouvez changer d'avis.".to_owned()],
            ..simple(
                "Suppression de votre compte prévue",
                "Comme demandé, votre compte et ses données seront supprimés.",
            )
        },
        Letter::DeletionDone => Body {
            remarks: vec![
                "Les documents de paiement sont conservés le temps que la loi exige, sans lien avec votre nom."
                    .to_owned(),
            ],
            ..simple(
                "Votre compte a été supprimé",
                "Votre compte et ses données ont été supprimés. Ce message est le dernier.",
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
