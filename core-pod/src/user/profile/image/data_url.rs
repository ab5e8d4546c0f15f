//! Pictures in the text of a `data:` URL.
//!
//! contract: core §5.1 (photo), §5.2 (the client sends one as a form field)

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{MAX_BYTES, Refusal};

/// Whether a text means to be a picture itself.
pub fn is_one(text: &str) -> bool {
    text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"))
}

/// The bytes in a `data:image/…;base64,` URL. The type it names only has to be one that is accepted; what counts is what
/// the bytes say.
pub fn decode(url: &str) -> Result<Vec<u8>, Refusal> {
    let (head, data) = url.split_once(',').ok_or(Refusal::OtherType)?;
    let head = head.to_ascii_lowercase();
    let kind = head
        .strip_prefix("data:image/")
        .and_then(|head| head.strip_suffix(";base64"));
    if !matches!(kind, Some("jpeg" | "jpg" | "png" | "gif" | "webp")) {
        return Err(Refusal::OtherType);
    }
    if data.len() > MAX_BYTES.div_ceil(3) * 4 {
        return Err(Refusal::TooLarge);
    }
    STANDARD.decode(data.trim()).map_err(|_| Refusal::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_url_is_base64_of_an_accepted_type() {
        assert_eq!(decode("data:image/png;base64,aGVsbG8=").unwrap(), b"hello");
        assert_eq!(decode("DATA:image/JPG;base64,aGVsbG8=").unwrap(), b"hello");
        assert_eq!(decode("data:image/png;base64,"), Ok(vec![]));
        for (wrong, refusal) in [
            ("data:image/svg+xml;base64,aGVsbG8=", Refusal::OtherType),
            ("data:text/html;base64,aGVsbG8=", Refusal::OtherType),
            ("data:image/png,aGVsbG8=", Refusal::OtherType),
            ("data:image/png;charset=x;base64,aGVsbG8=", Refusal::OtherType),
            ("data:image/png;base64", Refusal::OtherType),
            ("data:image/png;base64,%%%", Refusal::Damaged),
        ] {
            assert_eq!(decode(wrong), Err(refusal), "{wrong}");
        }
        let large = format!("data:image/png;base64,{}", "A".repeat(3 * 1024 * 1024));
        assert_eq!(decode(&large), Err(Refusal::TooLarge));
    }
}
