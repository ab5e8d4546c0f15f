//! The form in which an export lies in object storage: sealed piece by piece, so that a download needs the memory of one
//! piece and still notices a changed, exchanged or missing one.
//!
//! contract: core §5.11, §11 (encrypted object), §14
//!
//! A piece is its length (four bytes, the highest bit marks the last piece) and what the cipher made of it. The context
//! of each piece names the export, its place and whether it is the last.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use shared::crypto::{Cipher, CryptoError};

use crate::user::gdpr::model::RequestId;

/// Plain bytes of a piece.
const PIECE: usize = 256 * 1024;
/// No piece is longer than this when sealed; what says so is damaged.
const MAX_SEALED: usize = PIECE + 1024;
const LAST: u32 = 1 << 31;

/// Seals an export.
pub fn seal(cipher: &Cipher, id: RequestId, plain: &[u8]) -> Result<Bytes, CryptoError> {
    let mut sealed = BytesMut::with_capacity(plain.len() + plain.len() / 256 + 128);
    let count = plain.len().div_ceil(PIECE).max(1);
    for place in 0..count {
        let start = place * PIECE;
        let piece = plain.get(start..(start + PIECE).min(plain.len())).unwrap_or_default();
        let is_last = place + 1 == count;
        let body = cipher.seal(&context(id, place, is_last), piece)?;
        let length = u32::try_from(body.len()).map_err(|_| CryptoError::Seal)?;
        sealed.extend_from_slice(&(length | if is_last { LAST } else { 0 }).to_be_bytes());
        sealed.extend_from_slice(&body);
    }
    Ok(sealed.freeze())
}

fn context(id: RequestId, place: usize, is_last: bool) -> String {
    format!("users.exports:{id}:{place}:{is_last}")
}

/// The plain bytes of a sealed export as they come. Ends with an error where the object was changed or cut off.
pub fn open(
    cipher: Cipher,
    id: RequestId,
    sealed: BoxStream<'static, io::Result<Bytes>>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let opening = Opening {
        cipher,
        id,
        sealed,
        held: BytesMut::new(),
        place: 0,
        is_over: false,
    };
    stream::unfold(Some(opening), async |state| {
        let mut opening = state?;
        match opening.next().await {
            Ok(Some(plain)) => Some((Ok(plain), Some(opening))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Opening {
    cipher: Cipher,
    id: RequestId,
    sealed: BoxStream<'static, io::Result<Bytes>>,
    held: BytesMut,
    place: usize,
    is_over: bool,
}

impl Opening {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        self.hold(4).await?;
        let head = self.held.get_u32();
        let (length, is_last) = ((head & !LAST) as usize, head & LAST != 0);
        if length > MAX_SEALED {
            return Err(damaged());
        }
        self.hold(length).await?;
        let body = self.held.split_to(length);
        let context = context(self.id, self.place, is_last);
        let plain = self.cipher.open(&context, &body).map_err(|_| damaged())?;
        self.place += 1;
        self.is_over = is_last;
        Ok(Some(Bytes::copy_from_slice(&plain)))
    }

    /// Reads on until so many bytes are held.
    async fn hold(&mut self, count: usize) -> io::Result<()> {
        while self.held.len() < count {
            match self.sealed.next().await {
                Some(chunk) => self.held.extend_from_slice(&chunk?),
                None => return Err(damaged()),
            }
        }
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the stored export is damaged")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> RequestId {
        RequestId(Uuid::from_u128(number))
    }

    async fn read(id: RequestId, sealed: &[u8], chunk: usize) -> io::Result<Vec<u8>> {
        let chunks: Vec<_> = sealed
            .chunks(chunk.max(1))
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let mut plain = open(Cipher::development(), id, stream::iter(chunks).boxed());
        let mut all = Vec::new();
        while let Some(piece) = plain.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn what_was_sealed_is_read_in_pieces_of_any_size() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let plain: Vec<u8> = (0..=250_u8).cycle().take(length).collect();
            let sealed = seal(&Cipher::development(), id(1), &plain).unwrap();
            for chunk in [100, 64 * 1024, sealed.len()] {
                assert_eq!(read(id(1), &sealed, chunk).await.unwrap(), plain, "{length} by {chunk}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_of_the_plain_text_is_in_the_object() {
        let sealed = seal(&Cipher::development(), id(1), &b"ada@example.com".repeat(50)).unwrap();
        assert!(!sealed.windows(8).any(|window| window == b"ada@exam"));
    }

    #[tokio::test]
    async fn a_changed_exchanged_or_cut_off_object_is_noticed() {
        let cipher = Cipher::development();
        let plain = vec![7; 2 * PIECE + 5];
        let sealed = seal(&cipher, id(1), &plain).unwrap();
        assert!(read(id(2), &sealed, 4096).await.is_err(), "of somebody else");
        let first = 4 + u32::from_be_bytes(sealed[..4].try_into().unwrap()) as usize;
        for cut in [0, 3, 4, first, 2 * first, sealed.len() - 1] {
            assert!(read(id(1), &sealed[..cut], 4096).await.is_err(), "cut at {cut}");
        }
        let swapped = [&sealed[first..2 * first], &sealed[..first], &sealed[2 * first..]].concat();
        assert!(read(id(1), &swapped, 4096).await.is_err(), "pieces exchanged");
        let mut marked = sealed.to_vec();
        marked[0] |= 0x80;
        assert!(read(id(1), &marked, 4096).await.is_err(), "declared the last");
        for at in [5, first + 40, sealed.len() - 1] {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert!(read(id(1), &changed, 4096).await.is_err(), "byte {at}");
        }
    }
}
