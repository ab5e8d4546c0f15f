//! Pictures as travellers send them: what they are, how large, and what of them is kept.
//!
//! contract: core §5.2, §13 line 14. The type is what the first bytes say, whatever name or type was declared. A picture is
//! taken apart into its segments and put together again from those that a decoder needs to show it: places, cameras, texts,
//! thumbnails and whatever else rode along stays behind, and nothing is decoded. What does not hold together is refused.
//! A PNG is the exception that the contract asks for: checksums are not looked at, and image data of a wrong length is
//! taken to reach up to the end of the file.

pub mod data_url;
mod gif;
mod jpeg;
mod png;
mod webp;

use bytes::Bytes;

/// The largest picture, in bytes.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;
/// The largest width and height, in pixels.
const MAX_SIDE: usize = 4096;
/// More segments than this has no picture of 2 MB that a camera or a browser made.
const MAX_PIECES: usize = 1_000;

/// A type of picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
    /// WebP.
    Webp,
}

impl Format {
    /// What the first bytes say.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Self::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }

    /// The ending of a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }

    /// The type with this ending.
    pub fn with_extension(extension: &str) -> Option<Self> {
        let all = [Self::Jpeg, Self::Png, Self::Gif, Self::Webp];
        all.into_iter().find(|format| format.extension() == extension)
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }
}

/// Why a picture is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing was sent.
    #[error("the picture is empty")]
    Empty,
    /// Too many bytes.
    #[error("the picture is larger than 2 MB")]
    TooLarge,
    /// Some other type, or no picture.
    #[error("only JPEG, PNG, GIF and WebP pictures are accepted")]
    OtherType,
    /// It breaks off.
    #[error("the picture is incomplete")]
    Truncated,
    /// It does not hold together.
    #[error("the picture is damaged")]
    Damaged,
    /// Too wide, too high, or of no size.
    #[error("the picture must be at most 4096 by 4096 pixels")]
    Size,
    /// Cut into more pieces than any real picture.
    #[error("the picture has too many parts")]
    Pieces,
}

/// A picture without anything but itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What it is.
    pub format: Format,
    /// The file.
    pub bytes: Bytes,
}

impl Picture {
    /// Takes a picture from what was sent. Linear in its length; holds one copy of it.
    pub fn accept(sent: &[u8]) -> Result<Self, Refusal> {
        if sent.is_empty() {
            return Err(Refusal::Empty);
        }
        if sent.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let format = Format::of(sent).ok_or(Refusal::OtherType)?;
        let kept = match format {
            Format::Jpeg => jpeg::strip(sent),
            Format::Png => png::strip(sent),
            Format::Gif => gif::strip(sent),
            Format::Webp => webp::strip(sent),
        }?;
        let size = imagesize::blob_size(&kept).map_err(|_| Refusal::Damaged)?;
        check_side(size.width)?;
        check_side(size.height)?;
        Ok(Self {
            format,
            bytes: kept.into(),
        })
    }
}

fn check_side(pixels: usize) -> Result<(), Refusal> {
    if (1..=MAX_SIDE).contains(&pixels) {
        Ok(())
    } else {
        Err(Refusal::Size)
    }
}

/// Counts the pieces of a picture.
struct Pieces(usize);

impl Pieces {
    const fn new() -> Self {
        Self(MAX_PIECES)
    }

    fn next(&mut self) -> Result<(), Refusal> {
        self.0 = self.0.checked_sub(1).ok_or(Refusal::Pieces)?;
        Ok(())
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Refusal::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Refusal::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        let [byte] = self.array()?;
        Ok(byte)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PNG chunk with a checksum that is wrong, which nobody looks at.
    pub fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], &kind, data, &[1, 2, 3, 4]].concat()
    }

    pub fn header_chunk(width: u32, height: u32) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        chunk(*b"IHDR", &[&sides[..], &[8, 2, 0, 0, 0]].concat())
    }

    /// The end, with the one checksum that is always right: it is written anew.
    pub const END: &[u8] = b"\0\0\0\0IEND\xAE\x42\x60\x82";
    pub const PNG: &[u8] = &[0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A];

    pub fn png(extra: &[u8]) -> Vec<u8> {
        [PNG, &header_chunk(1, 1), extra, &chunk(*b"IDAT", b"pixels"), END].concat()
    }

    pub fn segment(marker: u8, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len() + 2).unwrap().to_be_bytes();
        [&[0xFF, marker][..], &length, contents].concat()
    }

    pub fn jpeg(extra: &[u8]) -> Vec<u8> {
        let frame = segment(0xC0, &[8, 0, 2, 0, 3, 1, 1, 0x11, 0]);
        let scan = segment(0xDA, &[1, 1, 0, 0, 63, 0]);
        [
            &[0xFF, 0xD8][..],
            extra,
            &frame,
            &scan,
            &[1, 2, 0xFF, 0, 3, 0xFF, 0xD0, 4, 0xFF, 0xD9],
        ]
        .concat()
    }

    pub fn gif(extra: &[u8]) -> Vec<u8> {
        let screen = [&b"GIF89a"[..], &[2, 0, 3, 0, 0x80, 0, 0], &[0; 6]].concat();
        let image = [&[0x2C, 0, 0, 0, 0, 2, 0, 3, 0, 0, 2][..], &[2, 9, 9, 0]].concat();
        [&screen[..], extra, &image, &[0x3B]].concat()
    }

    pub fn riff(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_le_bytes();
        let pad: &[u8] = &[0][..data.len() % 2];
        [&kind[..], &length, data, pad].concat()
    }

    pub fn webp(chunks: &[u8]) -> Vec<u8> {
        riff(*b"RIFF", &[&b"WEBP"[..], chunks].concat())
    }

    pub fn vp8x(flags: u8) -> Vec<u8> {
        riff(*b"VP8X", &[flags, 0, 0, 0, 1, 0, 0, 2, 0, 0])
    }

    /// Lossless image data of 2 by 3 pixels, by its header.
    pub fn vp8l() -> Vec<u8> {
        riff(*b"VP8L", &[0x2F, 0x01, 0x80, 0x00, 0x00, 0x88])
    }

    fn refused(sent: &[u8]) -> Refusal {
        Picture::accept(sent).unwrap_err()
    }

    #[test]
    fn the_type_is_what_the_bytes_say() {
        for (sent, format) in [
            (jpeg(b""), Format::Jpeg),
            (png(b""), Format::Png),
            (gif(b""), Format::Gif),
            (webp(&[vp8x(0), vp8l()].concat()), Format::Webp),
            (webp(&vp8l()), Format::Webp),
        ] {
            let picture = Picture::accept(&sent).unwrap();
            assert_eq!((picture.format, &picture.bytes[..]), (format, &sent[..]));
        }
        for other in [
            &b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"[..],
            b"<!doctype html><script>alert(1)</script>",
            b"%PDF-1.7",
            b"BM\0\0\0\0",
            b"II*\0",
            b"GIF88a",
            b"\x89PNG\n",
            b"\0\0\0\0",
        ] {
            assert_eq!(refused(other), Refusal::OtherType);
        }
        assert_eq!(refused(b""), Refusal::Empty);
        assert_eq!(refused(&vec![0xFF; MAX_BYTES + 1]), Refusal::TooLarge);
    }

    #[test]
    fn a_side_of_none_or_too_many_pixels_is_refused() {
        for (width, height) in [(0, 1), (1, 0), (4097, 1), (1, 4097), (u32::MAX, u32::MAX)] {
            let sent = [PNG, &header_chunk(width, height), &chunk(*b"IDAT", b""), END].concat();
            assert_eq!(refused(&sent), Refusal::Size);
        }
        let largest = [PNG, &header_chunk(4096, 4096), &chunk(*b"IDAT", b""), END].concat();
        assert!(Picture::accept(&largest).is_ok());
    }

    #[test]
    fn a_picture_cut_off_anywhere_is_refused() {
        for whole in [jpeg(b""), png(b""), gif(b""), webp(&vp8l())] {
            for length in 0..whole.len() {
                // a PNG may miss the checksum of its end
                if whole.starts_with(PNG) && whole.len() - length <= 4 {
                    continue;
                }
                assert!(
                    Picture::accept(&whole[..length]).is_err(),
                    "{length} of {}",
                    whole.len()
                );
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_left_behind() {
        for whole in [jpeg(b""), png(b""), gif(b""), webp(&vp8l())] {
            let polyglot = [&whole[..], b"PK\x03\x04<script>alert(1)</script>"].concat();
            assert_eq!(&Picture::accept(&polyglot).unwrap().bytes[..], &whole[..]);
        }
    }

    #[test]
    fn a_thousand_pieces_are_too_many() {
        let comments = segment(0xFE, b"x").repeat(1_001);
        assert_eq!(refused(&jpeg(&comments)), Refusal::Pieces);
        assert_eq!(refused(&png(&chunk(*b"tEXt", b"x").repeat(1_001))), Refusal::Pieces);
        assert_eq!(refused(&gif(&[0x21, 0xFE, 1, b'x', 0].repeat(1_001))), Refusal::Pieces);
        let chunks = [riff(*b"JUNK", b"").repeat(1_001), vp8l()].concat();
        assert_eq!(refused(&webp(&chunks)), Refusal::Pieces);
    }

    /// Something that begins like a picture, so that the readers behind the first bytes see it.
    fn any_file() -> impl Strategy<Value = Vec<u8>> {
        let start = prop::sample::select(vec![
            jpeg(b""),
            png(b""),
            gif(b""),
            webp(&[vp8x(0xFF), vp8l()].concat()),
        ]);
        (
            start,
            prop::collection::vec(any::<u8>(), 0..200),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(mut file, noise, at)| {
                let at = at.index(file.len());
                let end = (at + noise.len()).min(file.len());
                file.splice(at..end, noise);
                file
            })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_it_takes_it_takes_again_unchanged(sent in any_file()) {
            if let Ok(picture) = Picture::accept(&sent) {
                prop_assert_eq!(Picture::accept(&picture.bytes), Ok(picture.clone()));
                prop_assert!(picture.bytes.len() <= sent.len() + 64);
            }
        }
    }
}
