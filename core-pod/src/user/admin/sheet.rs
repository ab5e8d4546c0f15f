//! Lists as CSV files, written while they are read.
//!
//! contract: core §5.12 (CSV), §13 line 15. A spreadsheet runs what begins like a formula: such cells get an apostrophe in front.
//! UTF-8, `\n`, at most [`MAX_ROWS`] rows. Rows go from the database through a bounded channel to the client, so that neither
//! side makes the other's data pile up. What fails before anything was sent is an ordinary error; what fails later breaks the
//! connection off, so that half a file is not taken for a whole one.

use std::{borrow::Cow, io};

use axum::{body::Bytes, response::Response};
use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use shared::{
    ApiError,
    http::{in_request_scope, streamed},
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

/// Rows of one file.
pub const MAX_ROWS: i64 = 10_000;
/// Bytes gathered before they are sent.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way to a client that reads slowly: 2 MiB, which most files do not reach.
const CHUNKS: usize = 128;

type Message = Result<Bytes, ApiError>;

/// What a file is called, what stands over its columns, and whether every cell is quoted.
#[derive(Debug, Clone, Copy)]
pub struct Sheet {
    /// What the browser shall call it, header value and all.
    pub disposition: &'static str,
    /// The first line.
    pub header: &'static [&'static str],
    /// Quotes around every cell, or only where they are needed.
    pub quoted: bool,
}

impl Sheet {
    fn writer(&self) -> Writer<Vec<u8>> {
        let style = if self.quoted {
            QuoteStyle::Always
        } else {
            QuoteStyle::Necessary
        };
        WriterBuilder::new()
            .quote_style(style)
            .terminator(Terminator::Any(b'\n'))
            .from_writer(Vec::with_capacity(CHUNK))
    }

    /// The file as a response; `fill` writes its rows on a task of its own and gives the rest back.
    pub async fn respond<F>(&'static self, fill: impl FnOnce(Rows) -> F) -> Result<Response, ApiError>
    where
        F: Future<Output = Result<Rows, ApiError>> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::channel::<Message>(CHUNKS);
        let rows = Rows {
            sheet: self,
            csv: self.writer(),
            size: 0,
            sender: sender.clone(),
        };
        let mut rows = rows;
        rows.push(self.header.iter().copied()).await?;
        let filled = fill(rows);
        let work = async move {
            match filled.await {
                Ok(mut rest) => rest.flush().await,
                Err(error) => {
                    tracing::warn!(%error, file = self.disposition, "export broken off");
                    sender.send(Err(error)).await.is_ok()
                }
            }
        };
        tokio::spawn(in_request_scope(work).in_current_span());
        // nothing was sent yet: a failure up to here is an ordinary one
        let first = match receiver.recv().await {
            Some(first) => first?,
            None => return Err(ApiError::internal(anyhow::anyhow!("the export ended without a word"))),
        };
        let rest = stream::unfold(receiver, async |mut receiver| {
            let next: Message = receiver.recv().await?;
            Some((next.map_err(io::Error::other), receiver))
        });
        let mut response = Response::new(streamed(stream::iter([Ok(first)]).chain(rest)));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8"),
        );
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(self.disposition));
        Ok(response)
    }
}

/// Where rows are written to.
#[derive(Debug)]
pub struct Rows {
    sheet: &'static Sheet,
    csv: Writer<Vec<u8>>,
    size: usize,
    sender: mpsc::Sender<Message>,
}

impl Rows {
    /// Adds a row. `false`: nobody reads the file any more, there is no use in going on.
    pub async fn push<'c>(&mut self, cells: impl IntoIterator<Item = &'c str>) -> Result<bool, ApiError> {
        for cell in cells {
            let cell = neutral(cell);
            self.size += cell.len() + 3;
            self.csv.write_field(cell.as_bytes()).map_err(ApiError::internal)?;
        }
        self.csv.write_record(None::<&[u8]>).map_err(ApiError::internal)?;
        Ok(self.size < CHUNK || self.flush().await)
    }

    /// Sends what was gathered.
    async fn flush(&mut self) -> bool {
        self.size = 0;
        let written = std::mem::replace(&mut self.csv, self.sheet.writer()).into_inner();
        let message = written
            .map(Bytes::from)
            .map_err(|error| ApiError::internal(error.into_error()));
        self.sender.send(message).await.is_ok()
    }
}

/// The cell, harmless in a spreadsheet.
pub fn neutral(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;

    static PLAIN: Sheet = Sheet {
        disposition: "attachment; filename=\"a.csv\"",
        header: &["one", "two"],
        quoted: false,
    };
    static QUOTED: Sheet = Sheet { quoted: true, ..PLAIN };

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn cells_are_quoted_as_the_sheet_says_and_lines_end_in_a_newline() {
        let fill = |mut rows: Rows| async move {
            rows.push(["a,b", "say \"x\"\nand go"]).await?;
            Ok(rows)
        };
        let plain = text(PLAIN.respond(fill).await.unwrap()).await;
        assert_eq!(plain, "one,two\n\"a,b\",\"say \"\"x\"\"\nand go\"\n");
        let quoted = text(QUOTED.respond(fill).await.unwrap()).await;
        assert!(quoted.starts_with("\"one\",\"two\"\n\"a,b\","), "{quoted}");
    }

    #[tokio::test]
    async fn a_failure_before_the_first_byte_is_an_ordinary_error_and_a_later_one_breaks_off() {
        let early = |_| async { Err(ApiError::not_found("gone")) };
        assert_eq!(PLAIN.respond(early).await.unwrap_err().status(), 404);
        let late = |mut rows: Rows| async move {
            for _ in 0..10_000 {
                rows.push(["0123456789", "0123456789"]).await?;
            }
            Err(ApiError::not_found("gone"))
        };
        let response = PLAIN.respond(late).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    }

    #[tokio::test]
    async fn nobody_writes_for_a_client_who_has_left() {
        let (told, heard) = tokio::sync::oneshot::channel();
        let fill = |mut rows: Rows| async move {
            while rows.push(["x".repeat(CHUNK).as_str(), "y"]).await? {}
            told.send(()).ok();
            Ok(rows)
        };
        drop(PLAIN.respond(fill).await.unwrap());
        heard.await.unwrap();
    }

    proptest! {
        #[test]
        fn no_cell_begins_like_a_formula(cell in "[=+@\t\r-]?.{0,20}") {
            let made = neutral(&cell);
            prop_assert!(!made.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(made.strip_prefix('\'').unwrap_or(&made), cell.strip_prefix('\'').unwrap_or(&cell));
        }
    }
}
