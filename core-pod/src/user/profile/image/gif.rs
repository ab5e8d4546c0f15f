//! GIF: a screen, then extensions and frames made of sub-blocks.
//!
//! contract: core §5.2. Frames and their timing stay, and how often they repeat; comments, texts and the data of
//! applications do not.

use super::{Input, Pieces, Refusal, check_side};

const IMAGE: u8 = 0x2C;
const EXTENSION: u8 = 0x21;
const END: u8 = 0x3B;
const TIMING: u8 = 0xF9;
const APPLICATION: u8 = 0xFF;
/// An extension that says how often to repeat: name, one sub-block of three bytes, end.
const REPEAT_LENGTH: usize = 1 + 11 + 1 + 3 + 1;

pub(super) fn strip(sent: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut input = Input(sent);
    let mut kept = Vec::with_capacity(sent.len());
    kept.extend_from_slice(input.take(6)?);
    let screen = input.take(7)?;
    kept.extend_from_slice(screen);
    if let Some(flags) = screen.get(4) {
        kept.extend_from_slice(colours(&mut input, *flags)?);
    }
    let (mut pieces, mut frames) = (Pieces::new(), 0_usize);
    loop {
        pieces.next()?;
        match input.byte()? {
            END => break,
            // some programs fill up with zeros
            0 => {}
            IMAGE => {
                write_image(&mut kept, &mut input)?;
                frames += 1;
            }
            EXTENSION => {
                let label = input.byte()?;
                let blocks = sub_blocks(&mut input)?;
                if label == TIMING || (label == APPLICATION && is_repetition(blocks)) {
                    kept.extend_from_slice(&[EXTENSION, label]);
                    kept.extend_from_slice(blocks);
                }
            }
            _ => return Err(Refusal::Damaged),
        }
    }
    if frames == 0 {
        return Err(Refusal::Damaged);
    }
    kept.push(END);
    Ok(kept)
}

fn write_image(kept: &mut Vec<u8>, input: &mut Input<'_>) -> Result<(), Refusal> {
    let place = input.take(4)?;
    let (width, height): ([u8; 2], [u8; 2]) = (input.array()?, input.array()?);
    check_side(u16::from_le_bytes(width).into())?;
    check_side(u16::from_le_bytes(height).into())?;
    let flags = input.byte()?;
    kept.push(IMAGE);
    kept.extend_from_slice(place);
    kept.extend_from_slice(&width);
    kept.extend_from_slice(&height);
    kept.push(flags);
    kept.extend_from_slice(colours(input, flags)?);
    kept.push(input.byte()?);
    kept.extend_from_slice(sub_blocks(input)?);
    Ok(())
}

/// The table of colours that these flags announce.
fn colours<'a>(input: &mut Input<'a>, flags: u8) -> Result<&'a [u8], Refusal> {
    let count = if flags & 0x80 == 0 { 0 } else { 2_usize << (flags & 7) };
    input.take(3 * count)
}

/// Sub-blocks as they stand, their end included.
fn sub_blocks<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Refusal> {
    let all = input.0;
    loop {
        let length = input.byte()?;
        if length == 0 {
            break;
        }
        input.take(length.into())?;
    }
    Ok(all.get(..all.len() - input.0.len()).unwrap_or_default())
}

fn is_repetition(blocks: &[u8]) -> bool {
    let name = blocks.get(1..12).unwrap_or_default();
    blocks.len() == REPEAT_LENGTH && blocks.first() == Some(&11) && matches!(name, b"NETSCAPE2.0" | b"ANIMEXTS1.0")
}

#[cfg(test)]
mod tests {
    use super::{super::tests::gif, *};

    #[test]
    fn comments_texts_and_applications_stay_behind_and_timing_does_not() {
        let repeat = [&[EXTENSION, APPLICATION, 11][..], b"NETSCAPE2.0", &[3, 1, 0, 0, 0]].concat();
        let timing = [EXTENSION, TIMING, 4, 0, 10, 0, 0, 0];
        let told = [
            &[EXTENSION, 0xFE, 6][..],
            b"secret",
            &[0, EXTENSION, APPLICATION, 11],
            b"XMP DataXMP",
            &[6],
            b"secret",
            &[0, EXTENSION, 0x01, 6],
            b"secret",
            &[0, EXTENSION, 0x99, 6],
            b"secret",
            &[0, EXTENSION, APPLICATION, 11],
            b"NETSCAPE2.0",
            &[3, 1, 0, 0, 6],
            b"secret",
            &[0],
        ]
        .concat();
        let kept = strip(&gif(&[&told[..], &repeat, &timing].concat())).unwrap();
        assert_eq!(kept, gif(&[&repeat[..], &timing].concat()));
    }

    #[test]
    fn a_script_that_begins_like_a_gif_is_refused() {
        for polyglot in [
            &b"GIF89a/*\0\0\0\0\0*/=1;alert(1)"[..],
            b"GIF89a=1;alert(document.domain);//",
        ] {
            assert!(strip(polyglot).is_err());
        }
    }

    #[test]
    fn a_frame_larger_than_a_picture_may_be_is_refused() {
        let huge = [&[IMAGE, 0, 0, 0, 0, 0xFF, 0xFF, 1, 0, 0, 2][..], &[1, 0, 0]].concat();
        assert_eq!(strip(&gif(&huge)), Err(Refusal::Size));
        let mut no_frame = gif(b"");
        no_frame.truncate(19);
        no_frame.push(END);
        assert_eq!(strip(&no_frame), Err(Refusal::Damaged));
    }
}
