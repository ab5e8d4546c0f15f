//! WebP: a RIFF file of chunks; the frames of an animation are chunks of chunks.
//!
//! contract: core §5.2. Image data, transparency, animation and the colour profile stay; Exif, XMP and everything unknown
//! do not, and the header no longer announces them.

use super::{Input, Pieces, Refusal, check_side};

/// Bits of the extended header that announce Exif and XMP.
const METADATA: u8 = 0x08 | 0x04;
/// What stands before the chunks of a frame: place, size, duration, flags.
const FRAME_HEADER: usize = 16;

pub(super) fn strip(sent: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut input = Input(sent);
    input.take(4)?;
    let length = usize::try_from(u32::from_le_bytes(input.array()?)).map_err(|_| Refusal::Truncated)?;
    let mut input = Input(input.take(length)?);
    if input.take(4)? != b"WEBP" {
        return Err(Refusal::OtherType);
    }
    let mut chunks = Vec::with_capacity(sent.len());
    let (mut pieces, mut has_pixels) = (Pieces::new(), false);
    while !input.0.is_empty() {
        pieces.next()?;
        let (kind, data) = chunk(&mut input)?;
        match kind {
            b"VP8X" => write_header(&mut chunks, data)?,
            b"ANMF" => {
                write_frame(&mut chunks, data, &mut pieces)?;
                has_pixels = true;
            }
            b"VP8 " | b"VP8L" => {
                write(&mut chunks, *kind, data)?;
                has_pixels = true;
            }
            b"ICCP" | b"ANIM" | b"ALPH" => write(&mut chunks, *kind, data)?,
            _ => {}
        }
    }
    if !has_pixels {
        return Err(Refusal::Damaged);
    }
    let mut kept = Vec::with_capacity(chunks.len() + 12);
    write(&mut kept, *b"RIFF", &[&b"WEBP"[..], &chunks].concat())?;
    Ok(kept)
}

fn chunk<'a>(input: &mut Input<'a>) -> Result<(&'a [u8; 4], &'a [u8]), Refusal> {
    let (kind, _) = input.0.split_first_chunk::<4>().ok_or(Refusal::Truncated)?;
    input.take(4)?;
    let length = usize::try_from(u32::from_le_bytes(input.array()?)).map_err(|_| Refusal::Truncated)?;
    let data = input.take(length)?;
    if length % 2 == 1 {
        input.byte()?;
    }
    Ok((kind, data))
}

fn write(to: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) -> Result<(), Refusal> {
    let length = u32::try_from(data.len()).map_err(|_| Refusal::TooLarge)?;
    to.extend_from_slice(&kind);
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(data);
    if data.len() % 2 == 1 {
        to.push(0);
    }
    Ok(())
}

fn write_header(to: &mut Vec<u8>, data: &[u8]) -> Result<(), Refusal> {
    let (flags, rest) = data.split_first().ok_or(Refusal::Damaged)?;
    let canvas = rest.get(3..9).filter(|_| rest.len() == 9).ok_or(Refusal::Damaged)?;
    check_sides(canvas)?;
    write(to, *b"VP8X", &[&[flags & !METADATA][..], rest].concat())
}

fn write_frame(to: &mut Vec<u8>, data: &[u8], pieces: &mut Pieces) -> Result<(), Refusal> {
    let mut input = Input(data);
    let header = input.take(FRAME_HEADER)?;
    check_sides(header.get(6..12).unwrap_or_default())?;
    let mut frame = header.to_vec();
    while !input.0.is_empty() {
        pieces.next()?;
        let (kind, data) = chunk(&mut input)?;
        if matches!(kind, b"ALPH" | b"VP8 " | b"VP8L") {
            write(&mut frame, *kind, data)?;
        }
    }
    write(to, *b"ANMF", &frame)
}

/// Width and height less one, three bytes each.
fn check_sides(sides: &[u8]) -> Result<(), Refusal> {
    let mut sides = Input(sides);
    for _ in ["width", "height"] {
        let [low, middle, high] = sides.array().map_err(|_| Refusal::Damaged)?;
        let side = usize::try_from(u32::from_le_bytes([low, middle, high, 0])).map_err(|_| Refusal::Size)?;
        check_side(side + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Picture,
            tests::{riff, vp8l, vp8x, webp},
        },
        *,
    };

    #[test]
    fn exif_xmp_and_unknown_chunks_stay_behind_in_frames_too() {
        let frame = |chunks: &[u8]| {
            riff(
                *b"ANMF",
                &[&[0; 6][..], &[1, 0, 0, 2, 0, 0, 50, 0, 0, 0], chunks].concat(),
            )
        };
        let told = [
            riff(*b"EXIF", b"secret"),
            riff(*b"XMP ", b"secret!"),
            riff(*b"JUNK", b"secret"),
        ]
        .concat();
        let sent = webp(
            &[
                vp8x(0x0E),
                riff(*b"ICCP", b"colours"),
                told.clone(),
                frame(&[vp8l(), told.clone()].concat()),
                told,
            ]
            .concat(),
        );
        let expected = webp(&[vp8x(0x02), riff(*b"ICCP", b"colours"), frame(&vp8l())].concat());
        assert_eq!(&Picture::accept(&sent).unwrap().bytes[..], &expected[..]);
    }

    #[test]
    fn a_canvas_or_frame_too_large_is_refused() {
        let canvas = riff(*b"VP8X", &[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0, 0, 0]);
        assert_eq!(strip(&webp(&[canvas, vp8l()].concat())), Err(Refusal::Size));
        let frame = riff(
            *b"ANMF",
            &[&[0; 6][..], &[0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], &vp8l()].concat(),
        );
        assert_eq!(strip(&webp(&[vp8x(2), frame].concat())), Err(Refusal::Size));
        assert_eq!(strip(&webp(&vp8x(0))), Err(Refusal::Damaged));
    }
}
