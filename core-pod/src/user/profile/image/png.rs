//! PNG: a signature and chunks.
//!
//! contract: core §5.2. Checksums are not looked at. Where image data does not lead to another chunk, its length is wrong;
//! it is then taken to reach up to `IEND`, and written with the length it has.

use super::{Input, Pieces, Refusal};

const SIGNATURE: &[u8] = &[0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A];
/// What a decoder needs: the image, its colours, its density and its frames.
const KEPT: [&[u8; 4]; 13] = [
    b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"acTL", b"fcTL",
];
const FRAME_DATA: &[u8; 4] = b"fdAT";
/// The last chunk, whole.
const END: &[u8] = &[0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xAE, 0x42, 0x60, 0x82];
/// How it begins, wherever its checksum is.
const END_HEAD: &[u8] = &[0, 0, 0, 0, b'I', b'E', b'N', b'D'];
const CHECKSUM: usize = 4;

pub(super) fn strip(sent: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut rest = sent.strip_prefix(SIGNATURE).ok_or(Refusal::OtherType)?;
    let mut kept = Vec::with_capacity(sent.len() + END.len());
    kept.extend_from_slice(SIGNATURE);
    let mut pieces = Pieces::new();
    let mut has_pixels = false;
    // where the last chunk began, if it was image data
    let mut suspect: Option<(&[u8], usize)> = None;
    loop {
        pieces.next()?;
        let is_first = kept.len() == SIGNATURE.len();
        let Some((kind, whole, after)) = chunk(rest) else {
            let itself = rest.get(4..8).is_some_and(|kind| kind == b"IDAT");
            let broken = if itself { Some((rest, kept.len())) } else { suspect };
            return repaired(kept, broken);
        };
        if is_first != (kind == b"IHDR") || (is_first && whole.len() != 25) {
            return Err(Refusal::Damaged);
        }
        if kind == b"IEND" {
            kept.extend_from_slice(END);
            return if has_pixels { Ok(kept) } else { Err(Refusal::Damaged) };
        }
        suspect = if kind == b"IDAT" {
            has_pixels = true;
            Some((rest, kept.len()))
        } else {
            None
        };
        if KEPT.contains(&kind) || kind == FRAME_DATA {
            kept.extend_from_slice(whole);
        }
        rest = after;
    }
}

/// The next chunk: its kind, all of it, and what follows. `None` if there is none of that length, or it is no chunk.
fn chunk(rest: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (kind, _) = behind.split_first_chunk::<4>()?;
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    if kind == b"IEND" {
        // its checksum may be missing
        return Some((kind, rest, &[]));
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (whole, after) = rest.split_at_checked(length.checked_add(12)?)?;
    Some((kind, whole, after))
}

/// The picture up to image data of a wrong length, that data up to the end, and the end.
fn repaired(mut kept: Vec<u8>, broken: Option<(&[u8], usize)>) -> Result<Vec<u8>, Refusal> {
    let (rest, kept_before) = broken.ok_or(Refusal::Truncated)?;
    let mut input = Input(rest);
    input.take(8)?;
    let end = input
        .0
        .windows(END_HEAD.len())
        .position(|window| window == END_HEAD)
        .ok_or(Refusal::Truncated)?;
    let pixels = input.take(end)?;
    let length = pixels.len().checked_sub(CHECKSUM).ok_or(Refusal::Damaged)?;
    let length = u32::try_from(length).map_err(|_| Refusal::TooLarge)?;
    kept.truncate(kept_before);
    kept.extend_from_slice(&length.to_be_bytes());
    kept.extend_from_slice(b"IDAT");
    kept.extend_from_slice(pixels);
    kept.extend_from_slice(END);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Picture,
            tests::{PNG, chunk, header_chunk, png},
        },
        *,
    };

    #[test]
    fn texts_times_and_exif_stay_behind_and_colours_do_not() {
        let told = [
            chunk(*b"tEXt", b"Author\0Ada"),
            chunk(*b"iTXt", b"XML:com.adobe.xmp\0secret"),
            chunk(*b"zTXt", b"secret"),
            chunk(*b"eXIf", b"MM\0*GPS"),
            chunk(*b"tIME", b"secret"),
            chunk(*b"prVt", b"secret"),
        ]
        .concat();
        let colours = [chunk(*b"gAMA", b"1234"), chunk(*b"iCCP", b"profile")].concat();
        let kept = strip(&png(&[told, colours.clone()].concat())).unwrap();
        assert_eq!(kept.len(), png(&colours).len());
        for word in [&b"Ada"[..], b"secret", b"GPS"] {
            assert!(!kept.windows(word.len()).any(|window| window == word));
        }
    }

    #[test]
    fn image_data_of_a_wrong_length_or_checksum_is_accepted() {
        let whole = png(b"");
        let at = PNG.len() + header_chunk(1, 1).len();
        for wrong in [0_u32, 1, 3, 5, 7, 10, 13, 18, 22, 200, u32::MAX] {
            let mut broken = whole.clone();
            broken[at..at + 4].copy_from_slice(&wrong.to_be_bytes());
            let picture = Picture::accept(&broken).unwrap_or_else(|refusal| panic!("{wrong}: {refusal}"));
            assert_eq!(&picture.bytes[..], &whole[..], "{wrong}");
        }
    }

    #[test]
    fn only_image_data_may_be_wrong() {
        let mut text = png(&chunk(*b"tEXt", b"x"));
        let at = PNG.len() + header_chunk(1, 1).len();
        text[at..at + 4].copy_from_slice(&900_u32.to_be_bytes());
        assert!(strip(&text).is_err());
        let without_pixels = [PNG, &header_chunk(1, 1), END].concat();
        assert_eq!(strip(&without_pixels), Err(Refusal::Damaged));
        let without_header = [PNG, &chunk(*b"IDAT", b"x"), END].concat();
        assert_eq!(strip(&without_header), Err(Refusal::Damaged));
        let two_headers = png(&header_chunk(9, 9));
        assert_eq!(strip(&two_headers), Err(Refusal::Damaged));
    }
}
