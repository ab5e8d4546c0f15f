//! JPEG: segments, and after each scan header the scan itself.
//!
//! contract: core §5.2. Kept are tables, frames and scans, the density, the colour profile and Adobe's note on the colour
//! transform. Of Exif only the orientation stays, in a segment of its own: without it photographs of phones would lie on
//! their side.

use super::{Input, Pieces, Refusal, check_side};

const START: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const JFIF: u8 = 0xE0;
const EXIF: u8 = 0xE1;
const PROFILE: u8 = 0xE2;
const ADOBE: u8 = 0xEE;

pub(super) fn strip(sent: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut input = Input(sent);
    if input.array()? != [0xFF, START] {
        return Err(Refusal::OtherType);
    }
    let mut kept = Vec::with_capacity(sent.len());
    kept.extend_from_slice(&[0xFF, START]);
    let mut pieces = Pieces::new();
    let (mut frames, mut scans, mut is_oriented) = (0_usize, 0_usize, false);
    loop {
        pieces.next()?;
        let marker = next_marker(&mut input)?;
        match marker {
            END => break,
            // a picture within the picture is none of ours
            START => return Err(Refusal::Damaged),
            // these have no contents and no meaning between segments
            0x00 | 0x01 | 0xD0..=0xD7 => continue,
            _ => {}
        }
        let contents = contents(&mut input)?;
        match marker {
            JFIF => write_density(&mut kept, contents),
            EXIF if !is_oriented => is_oriented = write_orientation(&mut kept, contents),
            PROFILE if contents.starts_with(b"ICC_PROFILE\0") => write(&mut kept, marker, contents),
            ADOBE if contents.starts_with(b"Adobe") => write(&mut kept, marker, contents.get(..12).unwrap_or(contents)),
            // tables: Huffman, arithmetic, quantisation, restart interval, hierarchy
            0xC4 | 0xCC | 0xDB | 0xDD..=0xDF => write(&mut kept, marker, contents),
            0xC0..=0xCF => {
                check_frame(contents)?;
                frames += 1;
                write(&mut kept, marker, contents);
            }
            SCAN => {
                scans += 1;
                write(&mut kept, marker, contents);
                kept.extend_from_slice(entropy(&mut input)?);
            }
            // comments, all other applications, and a number of lines that would contradict the frame's
            _ => {}
        }
    }
    if frames == 0 || scans == 0 {
        return Err(Refusal::Damaged);
    }
    kept.extend_from_slice(&[0xFF, END]);
    Ok(kept)
}

/// Skips to the next marker: anything up to `FF`, and any number of `FF` before it.
fn next_marker(input: &mut Input<'_>) -> Result<u8, Refusal> {
    let at = input
        .0
        .iter()
        .position(|byte| *byte == 0xFF)
        .ok_or(Refusal::Truncated)?;
    input.take(at)?;
    loop {
        let byte = input.byte()?;
        if byte != 0xFF {
            return Ok(byte);
        }
    }
}

fn contents<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Refusal> {
    let length = usize::from(u16::from_be_bytes(input.array()?));
    input.take(length.checked_sub(2).ok_or(Refusal::Damaged)?)
}

/// The coded pixels of a scan: everything up to a marker that is neither an escape nor a restart.
fn entropy<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Refusal> {
    let is_end = |pair: &[u8]| matches!(pair, [0xFF, marker] if !matches!(marker, 0x00 | 0xD0..=0xD7 | 0xFF));
    let mut length = input.0.windows(2).position(is_end).ok_or(Refusal::Truncated)?;
    // any number of these may stand before a marker
    while length.checked_sub(1).and_then(|last| input.0.get(last)) == Some(&0xFF) {
        length -= 1;
    }
    input.take(length)
}

/// Writes a segment; `contents` come from one, so that they fit.
fn write(kept: &mut Vec<u8>, marker: u8, contents: &[u8]) {
    let Ok(length) = u16::try_from(contents.len() + 2) else {
        return;
    };
    kept.extend_from_slice(&[0xFF, marker]);
    kept.extend_from_slice(&length.to_be_bytes());
    kept.extend_from_slice(contents);
}

/// JFIF's version and density. Its thumbnail, which may show what was cropped away, is left out.
fn write_density(kept: &mut Vec<u8>, contents: &[u8]) {
    let Some(head) = contents.get(..12).filter(|head| head.starts_with(b"JFIF\0")) else {
        return;
    };
    let mut plain = [0_u8; 14];
    for (to, from) in plain.iter_mut().zip(head) {
        *to = *from;
    }
    write(kept, JFIF, &plain);
}

fn check_frame(contents: &[u8]) -> Result<(), Refusal> {
    let mut input = Input(contents);
    input.byte()?;
    let height = u16::from_be_bytes(input.array()?);
    let width = u16::from_be_bytes(input.array()?);
    check_side(height.into())?;
    check_side(width.into())
}

/// Writes an Exif segment with nothing but the orientation, if this one has one that matters.
fn write_orientation(kept: &mut Vec<u8>, contents: &[u8]) -> bool {
    let Some(orientation @ 2..=8) = contents.strip_prefix(b"Exif\0\0").and_then(orientation) else {
        return false;
    };
    let [high, low] = orientation.to_be_bytes();
    let exif = [
        &b"Exif\0\0MM\0*"[..],
        &[0, 0, 0, 8],                   // the first directory is here
        &[0, 1],                         // it has one entry
        &[0x01, 0x12, 0, 3, 0, 0, 0, 1], // orientation, one short number
        &[high, low, 0, 0],              // its value
        &[0, 0, 0, 0],                   // no further directory
    ]
    .concat();
    write(kept, EXIF, &exif);
    true
}

/// The orientation in a TIFF header's first directory.
fn orientation(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = usize::from(short(directory)?);
    let first = directory.checked_add(2)?;
    let entry = (0..entries.min(64))
        .map(|number| first.saturating_add(number * 12))
        .find(|at| short(*at) == Some(0x0112) && short(at.saturating_add(2)) == Some(3))?;
    short(entry.checked_add(8)?)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Picture,
            tests::{jpeg, segment},
        },
        *,
    };

    fn contains(bytes: &[u8], word: &[u8]) -> bool {
        bytes.windows(word.len()).any(|window| window == word)
    }

    fn exif(little: bool, orientation: u16) -> Vec<u8> {
        let (short, long) = if little {
            (
                u16::to_le_bytes as fn(u16) -> [u8; 2],
                u32::to_le_bytes as fn(u32) -> [u8; 4],
            )
        } else {
            (
                u16::to_be_bytes as fn(u16) -> [u8; 2],
                u32::to_be_bytes as fn(u32) -> [u8; 4],
            )
        };
        let mark: &[u8] = if little { b"II*\0" } else { b"MM\0*" };
        let entry = |tag: u16, kind: u16, value: u16| {
            [&short(tag)[..], &short(kind), &long(1), &short(value), &[0, 0]].concat()
        };
        [
            &b"Exif\0\0"[..],
            mark,
            &long(8),
            &short(2),
            &entry(0x8825, 4, 77),
            &entry(0x0112, 3, orientation),
            &long(0),
            b"GPS 48.8566 N 2.3522 E",
        ]
        .concat()
    }

    #[test]
    fn exif_comments_and_thumbnails_stay_behind() {
        let mut density = b"JFIF\0\x01\x01\0\0\x48\0\x48\x02\x01".to_vec();
        density.extend_from_slice(b"thumb!");
        let extra = [
            segment(0xE0, &density),
            segment(0xE0, b"JFXX\0secret"),
            segment(0xE1, &exif(false, 1)),
            segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0secret"),
            segment(0xE2, b"MPF\0secret"),
            segment(0xE2, b"ICC_PROFILE\0\x01\x01colours"),
            segment(0xED, b"Photoshop 3.0\0secret"),
            segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01secret"),
            segment(0xFE, b"secret"),
        ]
        .concat();
        let kept = Picture::accept(&jpeg(&extra)).unwrap().bytes;
        for word in [&b"secret"[..], b"GPS", b"Exif", b"thumb"] {
            assert!(!contains(&kept, word), "{}", String::from_utf8_lossy(word));
        }
        for word in [
            &b"JFIF\0\x01\x01\0\0\x48\0\x48\0\0"[..],
            b"colours",
            b"Adobe\0\x64\0\0\0\0\x01",
        ] {
            assert!(contains(&kept, word), "{}", String::from_utf8_lossy(word));
        }
    }

    #[test]
    fn of_exif_the_orientation_stays() {
        for little in [true, false] {
            for turned in 2..=8 {
                let kept = strip(&jpeg(&segment(0xE1, &exif(little, turned)))).unwrap();
                assert!(!contains(&kept, b"GPS"));
                let at = kept.windows(6).position(|window| window == b"Exif\0\0").unwrap();
                assert_eq!(orientation(&kept[at + 6..]), Some(turned));
            }
            for upright in [0, 1, 9, 700] {
                assert_eq!(strip(&jpeg(&segment(0xE1, &exif(little, upright)))).unwrap(), jpeg(b""));
            }
        }
    }

    #[test]
    fn segments_between_scans_are_looked_at_too() {
        let scan = [&segment(0xDA, &[1, 1, 0, 0, 63, 0])[..], &[5, 0xFF, 0, 6]].concat();
        let frame = segment(0xC2, &[8, 0, 2, 0, 3, 1, 1, 0x11, 0]);
        let hidden = segment(0xFE, b"secret");
        let sent = [&[0xFF, START][..], &frame, &scan, &hidden, &scan, &[0xFF, 0xFF, END]].concat();
        let kept = strip(&sent).unwrap();
        let expected = [&[0xFF, START][..], &frame, &scan, &scan, &[0xFF, END]].concat();
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_frame_too_large_and_a_file_without_pixels_are_refused() {
        let huge = segment(0xC1, &[8, 0xFF, 0xFF, 0, 3, 1, 1, 0x11, 0]);
        assert_eq!(strip(&jpeg(&huge)), Err(Refusal::Size));
        assert_eq!(strip(&[0xFF, START, 0xFF, END]), Err(Refusal::Damaged));
        assert!(strip(b"\xFF\xD8\xFF<script>alert(1)</script>").is_err());
    }
}
